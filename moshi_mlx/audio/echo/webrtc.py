"""WebRTC's echo canceller, from the optional package pywebrtc-audio."""

import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import SAMPLE_RATE

AEC3_FRAME = SAMPLE_RATE // 100  # samples, 10 ms
DELAY = 0.009  # seconds by which what comes out is later than what goes in


class WebrtcEchoCanceller:
    """AEC3 behind the interface of `LinearEchoCanceller`.

    It takes away more echo than the linear filter, also from loud loudspeakers and with clocks that drift fast.
    But what is left it suppresses: while the model speaks much of the user is lost, as if only one could talk at a
    time. Raises ConfigError where pywebrtc-audio is not installed.
    """

    def __init__(self) -> None:
        try:
            from pywebrtc_audio import AudioProcessor  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ConfigError(
                "--echo webrtc needs the package pywebrtc-audio, which is not installed; "
                "run `pip install 'moshi-mlx[aec]'` or use --echo linear"
            ) from error
        self.resets = 0  # it recovers by itself and does not tell
        self._processor = AudioProcessor(sample_rate=SAMPLE_RATE, echo_cancellation=True)

    def reset(self) -> None:
        """Forget the echo path."""
        self._processor.reset()

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """Take the echo out of what the microphone heard.

        near, far: (n,) float32, n a multiple of 240. Returns (n,) float32, 9 ms later than `near`.
        """
        # A last frame that is not whole would be filled up with silence, in the middle of the stream.
        assert near.shape == far.shape == (len(near) // AEC3_FRAME * AEC3_FRAME,), (near.shape, far.shape)
        out = self._processor.process(
            np.ascontiguousarray(near, np.float32), np.ascontiguousarray(far, np.float32)
        )
        return np.asarray(out, np.float32)
