"""Audio streams between the model's rate and a device's."""

import numpy as np


class StreamResampler:
    """A stream from one rate to another; the same rate costs nothing.

    Source: soxr's "HQ" streaming resampler, which holds back about 20 ms.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        """rate, new_rate: Hz."""
        self._stream = None
        if rate != new_rate:
            import soxr

            self._stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")

    def __call__(self, pcm: np.ndarray) -> np.ndarray:
        """The next (samples,) float32 of the stream, any number of them, at the new rate."""
        if self._stream is None or len(pcm) == 0:
            return pcm
        return self._stream.resample_chunk(np.ascontiguousarray(pcm, dtype=np.float32))
