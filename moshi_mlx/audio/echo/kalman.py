"""The built-in echo canceller: it subtracts from the microphone what the loudspeaker played, and nothing else.

There is no suppressor behind it: in a full-duplex conversation both sides talk at once, and a suppressor takes the
user's voice away exactly then. Shapes: P = 8 partitions of the echo path, K = 961 bins of a spectrum.
"""

from dataclasses import dataclass, field

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE

BLOCK = FRAME_SAMPLES // 2  # 960 samples = 40 ms: half the work of 20 ms, and it learns as well
PARTITIONS = 8
TAIL = PARTITIONS * BLOCK  # the longest echo path, 320 ms
BINS = BLOCK + 1
# Below this the loudspeaker is silent (-60 dBFS): its echo is under the noise of any room.
SILENT_PEAK = 1e-3

# The figures below were chosen on the scenes of benchmarks/echo.py: voices made of numbers, and espeak with flite.
FIRST_GUESS = 0.3  # power of the echo path in a partition, of all that comes back (much of it is the user)
WANDER = 1 - 0.9998**2  # how far the echo path wanders in a block, as a part of its power
# How much of its uncertainty a bin loses in a block, of what the algebra of independent blocks would take. Speech
# is alike from block to block: with the whole of it the filter stops learning before it has learnt.
CERTAINTY = 0.4
NOISE_MEMORY = 0.3  # of the last block's noise in this one's; short, because voices begin suddenly
NOISE_SPREAD = 10  # bins to each side over which noise is averaged, 250 Hz
NOISE_FLOOR = BLOCK * 1e-10  # power of a bin at -100 dBFS
CONSTRAINED = 4  # partitions in a block that are cut back to their length, in turn
# More may come out than goes in for so long (in seconds of double power), but not in the first second of learning.
EXCESS_SECONDS = 0.1
EXCESS_SLACK = 1.1
GRACE = SAMPLE_RATE // BLOCK
DRIFT_GAIN = 0.02
MAX_DRIFT = 200e-6 * BLOCK  # samples a block: the clocks of sound cards differ by less than 200 ppm
MIN_DRIFT = 3e-6 * BLOCK  # less cannot be told from none
DRIFT_CAUTION = 10.0  # a lag measured with a precision (per sample²) below this counts little
VOLUME_GAIN = 0.2
MIN_VOLUME_CHANGE = 0.2  # a louder echo is believed in from 1.6 dB on
VOLUME_CAUTION = 100.0


@dataclass
class EchoPath:
    """What is believed of the way from the loudspeaker to the microphone."""

    response: np.ndarray = field(default_factory=lambda: np.zeros((PARTITIONS, BINS), np.complex64))  # (P, K)
    uncertainty: np.ndarray = field(default_factory=lambda: np.zeros((PARTITIONS, BINS), np.float32))  # (P, K)
    noise: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.float32))  # (K,) power of what is not echo
    drift: float = 0.0  # samples by which the echo comes later in every block
    late: float = 0.0  # samples by which it comes later than `response` says, -0.5 to 0.5
    blocks: int = 0  # heard, before learning below zero


class LinearEchoCanceller:
    """Learns the echo path with a Kalman filter in the frequency domain, and subtracts the echo.

    The echo path is cut into partitions of a block each (overlap-save, FFTs of two blocks). Whatever the
    microphone hears beside the echo is measurement noise, bin by bin: that keeps the filter from unlearning while
    the user talks. Two clocks that drift apart are followed by moving the whole response, a volume that goes up by
    scaling it.

    Source: Enzner and Vary, "Frequency-domain adaptive Kalman filter for acoustic echo control in hands-free
    telephones", Signal Processing 86(6), 2006; Kuech, Mabande and Enzner, "State-space architecture of the
    partitioned-block-based acoustic echo controller", ICASSP 2014. What follows drift and volume is our own.
    """

    def __init__(self) -> None:
        self.resets = 0  # how often it gave up what it had learnt
        self._frequency = np.linspace(0, np.pi, BINS, dtype=np.float32)  # radians a sample
        self.reset()

    def reset(self) -> None:
        """Start over: no echo path, nothing played."""
        self._spectra = np.zeros((PARTITIONS, BINS), np.complex64)  # of what was played, the newest first
        self._played = np.zeros(2 * BLOCK, np.float32)
        self._silent = TAIL + BLOCK  # samples since something was played
        self._next_constrained = 0  # the next partition to be cut back
        self._near_power = self._far_power = 0.0  # of the last second in which something was played
        self._forget(heard=-PARTITIONS)

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """Take the echo out of what the microphone heard, with no delay.

        near: (n,) float32, the microphone; far: (n,) float32, what the loudspeaker was given in the same time,
        silence included; n a multiple of 960. Returns (n,) float32. Costs next to nothing once `far` is silent.
        """
        assert near.shape == far.shape == (len(near) // BLOCK * BLOCK,), (near.shape, far.shape)
        near, far = finite(near, far)
        out = near.copy()
        for start in range(0, len(near), BLOCK):
            part = slice(start, start + BLOCK)
            self._block(near[part], far[part], out[part])
        return out

    def _block(self, near: np.ndarray, far: np.ndarray, out: np.ndarray) -> None:
        """One block, (960,) each; `out` comes as a copy of `near`."""
        passed = 1 + max(0, self._silent - TAIL) // BLOCK  # blocks since the last one that was worked on
        self._silent = self._silent + BLOCK if np.abs(far).max() < SILENT_PEAK else 0
        if self._silent > TAIL:
            self._spectra[:] = self._played[:] = 0
            return
        self._played = np.concatenate([self._played[BLOCK:], far])
        self._spectra[1:] = self._spectra[:-1]
        self._spectra[0] = np.fft.rfft(self._played)
        if not near.any():  # muted: nothing to learn from
            return
        self._drift(passed)
        shift = np.exp(-1j * self.path.late * self._frequency).astype(np.complex64)
        echo = (self.path.response * self._spectra).sum(0) * shift  # (K,)
        out -= np.fft.irfft(echo)[BLOCK:]
        near_power, out_power = float(near @ near), float(out @ out)
        self._near_power = 0.96 * self._near_power + near_power
        self._far_power = 0.96 * self._far_power + float(far @ far)
        self.path.blocks += 1
        if self._is_lost(near_power, out_power):
            self.resets += 1
            self._near_power = min(self._near_power, 5 * self._near_recent)  # it may have become quiet all at once
            self._forget()
        elif self.path.blocks == 0:
            self._guess()
        elif self.path.blocks > 0:
            self._learn(echo, shift, out)

    def _learn(self, echo: np.ndarray, shift: np.ndarray, out: np.ndarray) -> None:
        """Update the echo path by a Kalman step.

        echo: (K,) spectrum of the echo expected. shift: (K,) the phase shift in each bin that `late` stands for.
        out: (960,) the microphone without that echo.
        """
        path, played = self.path, self._spectra
        error = np.fft.rfft(np.concatenate([np.zeros(BLOCK, np.float32), out])).astype(np.complex64)  # (K,)
        path.noise = NOISE_MEMORY * path.noise + (1 - NOISE_MEMORY) * smoothed(power(error))
        self._measure_drift(echo, error)
        self._measure_volume(echo, error)
        path.uncertainty += WANDER * power(path.response)
        spread = power(played) * path.uncertainty  # (P, K) power of the error that each partition may have made
        gain = path.uncertainty / (0.5 * spread.sum(0) + path.noise)
        path.response += gain * played.conj() * (error * shift.conj())
        path.uncertainty -= CERTAINTY * gain * spread
        # A partition is one block long; what the circular convolution put behind it is cut off.
        rows = np.arange(self._next_constrained, self._next_constrained + CONSTRAINED) % PARTITIONS
        self._next_constrained = (self._next_constrained + CONSTRAINED) % PARTITIONS
        path.response[rows] = spectra(taps(path.response[rows]))

    def _measure_drift(self, echo: np.ndarray, error: np.ndarray) -> None:
        # An echo that comes t samples later than expected leaves the error -jωt·echo: t by least squares.
        weight = self._frequency / self.path.noise
        precision = float(self._frequency * weight @ power(echo))
        lag = -float(weight @ (echo.conj() * error).imag) / (precision + DRIFT_CAUTION)
        self.path.drift = min(max(self.path.drift + DRIFT_GAIN * lag, -MAX_DRIFT), MAX_DRIFT)

    def _measure_volume(self, echo: np.ndarray, error: np.ndarray) -> None:
        # Someone turns the volume up: the error looks like the echo. Learnt bin by bin that would take long. An
        # echo fainter than expected is left to the filter: a new path looks like that, too.
        weight = 1 / self.path.noise
        more = float(weight @ (echo.conj() * error).real) / (float(weight @ power(echo)) + VOLUME_CAUTION)
        if more > MIN_VOLUME_CHANGE:
            factor = np.float32(1 + VOLUME_GAIN * min(more, 2.0))
            self.path.response *= factor
            self.path.uncertainty *= factor**2

    def _drift(self, blocks: int) -> None:
        """Move the response by as much as the clocks drifted apart, also in blocks in which nothing was played."""
        path = self.path
        if abs(path.drift) > MIN_DRIFT:
            path.late += blocks * path.drift
        if whole := round(path.late):
            # Whole samples move from one partition into the next; a phase shift of each by itself would lose them.
            path.response = spectra(shifted(taps(path.response).ravel(), whole).reshape(PARTITIONS, BLOCK))
            path.late -= whole

    def _is_lost(self, near_power: float, out_power: float) -> bool:
        """Return whether more has come out than went in, for too long."""
        self._near_recent = 0.8 * self._near_recent + near_power
        self._out_recent = 0.8 * self._out_recent + out_power
        excess = min(self._out_recent / (self._near_recent + 1e-9), 3.0) - EXCESS_SLACK
        self._excess = max(0.0, self._excess + excess * BLOCK / SAMPLE_RATE) if self.path.blocks > GRACE else 0.0
        return self._excess > EXCESS_SECONDS

    def _forget(self, heard: int = -1) -> None:
        """Forget the echo path. heard: minus the number of blocks to listen to before learning."""
        self.path = EchoPath(blocks=heard)
        self._excess = self._near_recent = self._out_recent = 0.0

    def _guess(self) -> None:
        """Guess how loud the echo can be at most, so that the filter learns as fast at any volume."""
        ratio = self._near_power / (self._far_power + 1e-9)
        self.path.uncertainty[:] = min(max(FIRST_GUESS * ratio, 1e-7), 100.0)


def finite(near: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both signals as (n,) float32, without NaN and values far over full scale."""
    near, far = np.asarray(near, np.float32), np.asarray(far, np.float32)
    if all(np.abs(signal).max(initial=0) <= 4 for signal in (near, far)):  # False for NaN
        return near, far
    return np.clip(np.nan_to_num(near), -1, 1), np.clip(np.nan_to_num(far), -1, 1)


def taps(response: np.ndarray) -> np.ndarray:
    """Turn spectra of partitions, (rows, K), into their first block in time, (rows, 960)."""
    return np.fft.irfft(response)[:, :BLOCK]


def spectra(partitions: np.ndarray) -> np.ndarray:
    """Turn partitions in time, (rows, 960), into spectra (rows, K)."""
    return np.fft.rfft(partitions, 2 * BLOCK).astype(np.complex64)


def shifted(response: np.ndarray, samples: int) -> np.ndarray:
    """Shift a response in time to come `samples` later; what leaves it at one end is lost."""
    gap = np.zeros(min(abs(samples), len(response)), response.dtype)
    if samples > 0:
        return np.concatenate([gap, response])[: len(response)]
    return np.concatenate([response, gap])[-len(response) :]


def power(spectrum: np.ndarray) -> np.ndarray:
    """Square the magnitudes."""
    return np.real(spectrum) ** 2 + np.imag(spectrum) ** 2


def smoothed(bins: np.ndarray) -> np.ndarray:
    """Average each bin with its neighbours, (K,) float32; the mean is never below the noise floor."""
    # Sums in float64: the loudest bins are a million times the faintest.
    sums = np.cumsum(np.pad(bins.astype(np.float64), (NOISE_SPREAD + 1, NOISE_SPREAD), mode="edge"))
    width = 2 * NOISE_SPREAD + 1
    return np.maximum((sums[width:] - sums[:-width]) / width, NOISE_FLOOR).astype(np.float32)
