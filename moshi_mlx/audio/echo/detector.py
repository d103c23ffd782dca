"""Whether the microphone hears the loudspeaker, how much later, and how much of that a canceller leaves."""

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE

SPAN_FRAMES = 12  # looked at together, 0.96 s
SPAN = SPAN_FRAMES * FRAME_SAMPLES  # samples
FFT_SIZE = 2 * SPAN  # room for lags of up to a span
BINS = FFT_SIZE // 6 + 1  # up to 4 kHz, where voices are; lags then come in steps of 1/8000 s
LAG_RATE = SAMPLE_RATE // 3
LOWEST_BIN = FFT_SIZE * 100 // SAMPLE_RATE  # of 100 Hz: hum is below
LAGS = int(0.9 * LAG_RATE)
SPREAD = int(0.05 * LAG_RATE)  # lags over which a room spreads an echo
MEMORY = 0.75  # weight of the last span's sums in this one's: 7 spans count
SILENT_POWER = 1e-6  # of a sample in a span in which nothing was played, -60 dBFS
# Without an echo `agreement` is 1, give or take a quarter; with one 20 dB under the user's voice it passes 1.4 in
# 4 seconds, with one as loud as the voice in 2 (benchmarks/echo.py).
HEARD, NOT_HEARD = 1.4, 1.3
SPANS_TO_DENY = 6
CHANCE = 0.15  # of the sum of powers: how far from it the power of the sum may be where there is no echo


class EchoDetector:
    """Looks for what was played in what the microphone hears, and in what a canceller made of it.

    Signals are correlated span by span. Chance correlations differ from span to span, those of an echo add up; so
    the power of the summed correlations less the sum of their powers is the echo's, whoever else is talking.

    To notice an echo all frequencies count alike, whatever is in them: the phase transform of Knapp and Carter,
    "The generalized correlation method for estimation of time delay", IEEE TASSP 24(4), 1976. `agreement` is the
    power of the sum over the sum of the powers, where it is largest: 1 when nothing adds up.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start over, as when the devices have changed."""
        self.heard: bool | None = None  # whether there is an echo; None: not known yet
        self.delay = 0.0  # seconds from loudspeaker to microphone, where `heard`
        self.agreement = 1.0
        self.looks = 0  # spans in which something was played
        self._sums = np.zeros((3, LAGS))  # correlations of near, near with all frequencies alike, out
        self._powers = np.zeros((3, LAGS))
        self.restart_erle()

    def restart_erle(self) -> None:
        """Measure `erle` anew, for the canceller has started over."""
        self.erle = 0.0  # dB by which the echo in `out` is fainter than in `near`, where `heard`
        self._compared = 0  # spans
        self._sums[[0, 2]] = self._powers[[0, 2]] = 0

    def look(self, near: np.ndarray, far: np.ndarray, out: np.ndarray) -> None:
        """Draw conclusions from one span of each signal, (23040,) float32, and those before it.

        near: the microphone. far: what was played. out: what the canceller left of `near`.
        """
        spans = np.stack([near, far, out])
        near_power, far_power, _ = np.square(spans).sum(1)
        if far_power <= SILENT_POWER * SPAN or near_power <= 0:
            return
        near, far, out = np.fft.rfft(spans, FFT_SIZE)[:, :BINS]
        phase = far.conj() / (np.abs(far) + 1e-20)
        cross = np.stack([near, near / (np.abs(near) + 1e-20), out]) * phase
        cross[:, :LOWEST_BIN] = 0
        correlations = np.fft.irfft(cross)[:, :LAGS]
        self._sums = MEMORY * self._sums + correlations
        self._powers = MEMORY**2 * self._powers + correlations**2
        self.looks += 1
        of_sums, of_each = windows(self._sums**2), windows(self._powers)
        self.agreement = float((of_sums[1] / of_each[1]).max())
        if self.agreement > HEARD:
            self.heard = True
            self.delay = float(np.abs(self._sums[1]).argmax()) / LAG_RATE
        elif self.agreement < NOT_HEARD and self.looks >= SPANS_TO_DENY:
            self.heard = False
        self._compared += 1
        if not self.heard:
            self.erle = 0.0
        elif self._compared > 1:  # one span alone agrees with itself
            echo = of_sums - of_each
            loudest = echo[0].argmax()
            # What is fainter than chance may be in `out` counts as being in it: the user's voice may hide so much.
            left = max(echo[2, loudest], CHANCE * of_each[2, loudest])
            self.erle = float(10 * np.log10(max(echo[0, loudest], 1e-20) / (left + 1e-20)))


def windows(values: np.ndarray) -> np.ndarray:
    """Sums over SPREAD neighbours along the last axis, at every place where there are as many."""
    sums = np.cumsum(values, axis=-1)
    return sums[..., SPREAD:] - sums[..., :-SPREAD]
