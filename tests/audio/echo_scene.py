"""A room with a loudspeaker and a microphone, made of numbers: what echo cancellers are compared on.

The model's voice goes through a loudspeaker that bends it, a delay, a room and (if asked) the clock of another
device, and reaches the microphone together with the user's voice and noise. It ranks methods; it does not predict
a particular laptop. Voices are made here, so that nothing has to be installed: harmonics of a gliding pitch under
moving formants, bursts of noise for consonants, pauses between phrases.
"""

from dataclasses import dataclass

import numpy as np
import soxr

from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE

ECHO_LEVEL = 0.05  # RMS of the echo where the model speaks, -26 dBFS
NOISE_LEVEL = 10 ** (-65 / 20)
ROOM_SECONDS = 0.15
FADE_SECONDS = 0.25  # in which the room's response falls by 60 dB
# Loudest value of a voice in the loudspeaker, and how far it bends there: tanh(DRIVE * x) / DRIVE.
PEAK, DRIVE = 0.5, 1.5
VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
    (440, 1020, 2240),
)
FORMANT_GAINS = np.array([1, 0.6, 0.3])


@dataclass(frozen=True)
class Scene:
    """Signals of one scene, (samples,) float32 each: near = echo + voice + noise."""

    far: np.ndarray  # what the loudspeaker was given
    near: np.ndarray  # what the microphone gives
    voice: np.ndarray  # the user's part of `near`
    echo: np.ndarray  # the loudspeaker's part of `near`


def make_scene(
    far: np.ndarray,
    voice: np.ndarray | None = None,
    *,
    near_to_echo: float = 0.0,
    delay: float = 0.12,
    jump: float = 0.0,
    jump_at: float | None = None,
    drift_ppm: float = 0.0,
    coupling: float = 1.0,
    noise: float = NOISE_LEVEL,
    seed: int = 7,
) -> Scene:
    """Play `far` in the room while `voice` speaks.

    far, voice: (samples,) float32 at 24 kHz; voice is brought to `near_to_echo` dB over the echo's level.
    delay: seconds from the loudspeaker to the microphone; from second `jump_at` on it is `jump` seconds longer.
    drift_ppm: how much faster the microphone's clock is. coupling: factor on the echo, 0 for headphones.
    """
    random = np.random.RandomState(seed)
    bent = np.tanh(DRIVE * far) / DRIVE
    if drift_ppm:
        bent = fit(soxr.resample(bent, SAMPLE_RATE, SAMPLE_RATE * (1 + drift_ppm * 1e-6), "VHQ"), len(far))
    dry = convolve(bent, room(random))
    if dry.any():
        dry *= ECHO_LEVEL / level(dry)
    echo = late(dry, delay)
    if jump_at is not None:
        start = int(jump_at * SAMPLE_RATE)
        echo[start:] = late(dry, delay + jump)[start:]
    echo *= coupling
    voice = np.zeros_like(far) if voice is None else fit(voice, len(far))
    if voice.any():
        voice = voice * (ECHO_LEVEL * 10 ** (near_to_echo / 20) / level(voice))
    near = echo + voice + noise * random.standard_normal(len(far))
    return Scene(
        far.astype(np.float32), near.astype(np.float32), voice.astype(np.float32), echo.astype(np.float32)
    )


def talker(length: float, seed: int) -> np.ndarray:
    """Something like speech, `length` seconds of it: (samples,) float32, loudest value PEAK."""
    random = np.random.RandomState(seed)
    samples = int(length * SAMPLE_RATE)
    voice = np.zeros(samples)
    pitch = random.choice([105, 125, 180, 210])
    position = int(random.uniform(0, 0.1) * SAMPLE_RATE)
    while position < samples:
        for glide in np.linspace(1.15, 0.85, random.randint(3, 9)):
            sound = syllable(pitch * glide * random.uniform(0.93, 1.07), random)
            stop = min(position + len(sound), samples)
            voice[position:stop] += sound[: stop - position]
            position = stop
        position += int(random.uniform(0.1, 0.45) * SAMPLE_RATE)
    return (voice * (PEAK / np.abs(voice).max())).astype(np.float32)


def syllable(pitch: float, random: np.random.RandomState) -> np.ndarray:
    """A consonant's noise, then harmonics of a pitch (Hz) under formants that move from one vowel to another."""
    time = np.arange(int(random.uniform(0.12, 0.28) * SAMPLE_RATE)) / SAMPLE_RATE
    place = time / time[-1]
    start, end = np.array([VOWELS[i] for i in random.choice(len(VOWELS), 2)], dtype=float)
    phase = 2 * np.pi * np.cumsum(pitch * (1 - 0.1 * place)) / SAMPLE_RATE
    sound = np.zeros(len(time))
    for harmonic in range(1, int(7000 / pitch)):
        frequency = harmonic * pitch
        # A slope of 6 dB an octave and three resonances, worked out at both ends of the glide.
        first, last = ((FORMANT_GAINS / (1 + ((frequency - f) / 90) ** 2)).sum() for f in (start, end))
        gain = (first + (last - first) * place + 0.01) / harmonic**0.5
        sound += gain * np.sin(harmonic * phase + harmonic)
    sound *= np.minimum(1, 12 * np.minimum(place, 1 - place)) * random.uniform(0.5, 1)
    hiss = np.diff(random.standard_normal(int(random.uniform(0.03, 0.08) * SAMPLE_RATE) + 1))
    sound *= 0.15 / level(sound)
    return np.concatenate([hiss * np.hanning(len(hiss)) * random.uniform(0.01, 0.05), sound])


def room(random: np.random.RandomState) -> np.ndarray:
    """A room's response, 150 ms: the direct sound, then noise that fades."""
    time = np.arange(int(ROOM_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    response = 0.1 * random.standard_normal(len(time)) * 10 ** (-3 * time / FADE_SECONDS)
    response[0] = 1.0
    return response


def estoi(clean: np.ndarray, heard: np.ndarray) -> float:
    """How intelligible `heard` is, 0 to 1, when `clean` was said: (samples,) both, at 24 kHz.

    Source: Jensen and Taal, "An Algorithm for Predicting the Intelligibility of Speech Masked by Modulated Noise
    Maskers", IEEE/ACM TASLP 24(11), 2016: 10 kHz, frames of 256, 15 third octaves from 150 Hz, segments of 30.
    """
    rate, frame, hop, segment = 10_000, 256, 128, 30
    x, y = (soxr.resample(signal.astype(np.float64), SAMPLE_RATE, rate) for signal in (clean, heard))
    window = np.hanning(frame + 2)[1:-1]
    starts = np.arange(0, len(x) - frame, hop)[:, None] + np.arange(frame)
    x, y = x[starts] * window, y[starts] * window
    loudness = 20 * np.log10(np.linalg.norm(x, axis=1) + 1e-12)
    speaking = loudness > loudness.max() - 40
    x, y = (overlap_add(frames[speaking], hop)[starts[: speaking.sum() - 1]] * window for frames in (x, y))
    frequency = np.fft.rfftfreq(512, 1 / rate)
    centre = 150 * 2 ** (np.arange(15) / 3)
    edges = [[np.abs(frequency - c * 2 ** (side / 6)).argmin() for side in (-1, 1)] for c in centre]
    bands = np.array([(np.arange(257) >= low) & (np.arange(257) < high) for low, high in edges], dtype=float)
    x, y = (np.sqrt(bands @ np.abs(np.fft.rfft(frames, 512)).T ** 2) for frames in (x, y))  # (15, frames)
    score = 0.0
    for start in range(x.shape[1] - segment + 1):
        a, b = (unit(unit(bands[:, start : start + segment], 1), 0) for bands in (x, y))
        score += (a * b).sum() / segment
    return float(score / (x.shape[1] - segment + 1))


def unit(values: np.ndarray, axis: int) -> np.ndarray:
    values = values - values.mean(axis, keepdims=True)
    return values / (np.linalg.norm(values, axis=axis, keepdims=True) + 1e-12)


def overlap_add(frames: np.ndarray, hop: int) -> np.ndarray:
    signal = np.zeros((len(frames) - 1) * hop + frames.shape[1])
    for index, frame in enumerate(frames):
        signal[index * hop : index * hop + len(frame)] += frame
    return signal


def run(canceller, scene: Scene) -> np.ndarray:
    """What the canceller makes of a scene, frame by frame: (samples,) float32."""
    ends = range(FRAME_SAMPLES, len(scene.near) + 1, FRAME_SAMPLES)
    return np.concatenate(
        [canceller.process(scene.near[e - FRAME_SAMPLES : e], scene.far[e - FRAME_SAMPLES : e]) for e in ends]
    )


def erle(scene: Scene, heard: np.ndarray, start: float, stop: float) -> float:
    """Echo return loss enhancement from second `start` to `stop`, dB: the microphone's power over what is left."""
    part = seconds(start, stop)
    return decibels(scene.near[part]) - decibels(heard[part])


def seconds(start: float, stop: float) -> slice:
    """The samples from one time to another."""
    return slice(int(start * SAMPLE_RATE), int(stop * SAMPLE_RATE))


def decibels(signal: np.ndarray) -> float:
    """Mean power, dB."""
    return float(10 * np.log10(np.mean(np.square(signal, dtype=np.float64)) + 1e-20))


def level(signal: np.ndarray) -> float:
    """RMS of the parts that are not silence."""
    return float(np.sqrt(np.mean(np.square(signal[np.abs(signal) > 1e-3 * np.abs(signal).max()]))))


def late(signal: np.ndarray, delay: float) -> np.ndarray:
    samples = round(delay * SAMPLE_RATE)
    return np.concatenate([np.zeros(samples), signal[: len(signal) - samples]])


def fit(signal: np.ndarray, samples: int) -> np.ndarray:
    return np.pad(signal[:samples], (0, max(0, samples - len(signal))))


def convolve(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    size = 1 << (len(signal) + len(response)).bit_length()
    return np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(response, size))[: len(signal)]
