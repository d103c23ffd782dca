"""What happens to a voice between a mouth and a codec: speed, loudness, noise, a narrow telephone band."""

import numpy as np

from training.voices import SAMPLE_RATE

_EASY = 4_800  # transforms are fast whose length is a multiple of it, and many times slower where it is a prime


def warped(pcm: np.ndarray, factor: float, length: int, start: float) -> np.ndarray:
    """`length` samples of `pcm` played `factor` times faster (and higher), from sample `start`."""
    where = start + factor * np.arange(length)
    return np.interp(where, np.arange(len(pcm)), pcm, left=0, right=0).astype(np.float32)


def spoken(pcm: np.ndarray, floor: float = 0.005, margin: int = 480) -> slice:
    """Where in a recording there is speech, with up to `margin` samples before it and twice as many behind it."""
    loud = np.flatnonzero(np.abs(pcm) > floor)
    return slice(max(0, loud[0] - margin), loud[-1] + 2 * margin)


def trimmed(pcm: np.ndarray, floor: float = 0.005, margin: int = 480) -> np.ndarray:
    """Speech without the silence around it, faded in and out over `margin` samples."""
    piece = pcm[spoken(pcm, floor, margin)].copy()
    piece[:margin] *= np.linspace(0, 1, margin)
    piece[-margin:] *= np.linspace(1, 0, margin)
    return piece


def noise(rng: np.random.Generator, length: int, tilt: float | None = None) -> np.ndarray:
    """Noise of RMS 1, white (tilt 0) to brown (tilt 2)."""
    tilt = rng.uniform(0, 2) if tilt is None else tilt
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum *= np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 40) ** (-tilt / 2)
    shaped = np.fft.irfft(spectrum, length)
    return (shaped / (np.sqrt(np.mean(shaped**2)) + 1e-12)).astype(np.float32)


def bumps(rng: np.random.Generator, length: int) -> np.ndarray:
    """Sounds that are no speech, peak 1: clicks, knocks, coughs, hums and beeps at random times."""
    out = np.zeros(length, np.float32)
    for _ in range(rng.integers(1, 5)):
        count = int(SAMPLE_RATE * rng.uniform(0.01, 0.5))
        begin = rng.integers(0, max(1, length - count))
        time = np.arange(count) / SAMPLE_RATE
        envelope = np.exp(-time * rng.uniform(5, 60))
        kind = rng.integers(3)
        if kind == 0:
            sound = noise(rng, count)
        elif kind == 1:
            sound = np.sin(2 * np.pi * rng.uniform(60, 3000) * time)
        else:
            sound = noise(rng, count) * (1 + np.sign(np.sin(2 * np.pi * rng.uniform(4, 12) * time)))
        end = min(length, begin + count)
        out[begin:end] += (envelope * sound)[: end - begin] * rng.uniform(0.2, 1)
    return out / (np.abs(out).max() + 1e-9)


def music(rng: np.random.Generator, length: int) -> np.ndarray:
    """Held chords with vibrato, a melody over them, a bass and a drum, peak 1."""
    out = np.zeros(length)
    time = np.arange(length) / SAMPLE_RATE
    beat = rng.uniform(0.3, 0.8)
    key = rng.uniform(90, 240)
    scale = np.array([0, 2, 3, 5, 7, 8, 10] if rng.random() < 0.5 else [0, 2, 4, 5, 7, 9, 11])
    overtones = 1 / np.arange(1, 9) ** rng.uniform(0.7, 2.2)
    attack, decay = rng.uniform(20, 200), rng.uniform(0.5, 6)
    vibrato = rng.uniform(0, 0.004) * np.sin(2 * np.pi * rng.uniform(4, 7) * time) / (2 * np.pi * 5)

    def play(degree: int, octave: float, begin: float, lasts: float, level: float) -> None:
        first, last = int(begin * SAMPLE_RATE), min(length, int((begin + lasts) * SAMPLE_RATE))
        now = time[first:last] - begin
        pitch = key * octave * 2 ** ((scale[degree % 7] + 12 * (degree // 7)) / 12)
        envelope = (1 - np.exp(-attack * now)) * np.exp(-decay * now) * np.clip((lasts - now) * 50, 0, 1)
        phase = 2 * np.pi * pitch * (now + vibrato[first:last])
        tone = sum(weight * np.sin((number + 1) * phase) for number, weight in enumerate(overtones))
        out[first:last] += level * envelope * tone

    begin, melody = 0.0, int(rng.integers(7))
    while begin < length / SAMPLE_RATE:
        root = int(rng.choice([0, 3, 4, 5, 1]))
        for degree in (root, root + 2, root + 4):
            play(degree, 1, begin, 4 * beat, 0.3)
        play(root, 0.5, begin, 2 * beat, 0.5)
        for step in range(4):
            if rng.random() < 0.8:
                melody += int(rng.integers(-2, 3))
                play(melody % 14, 2, begin + step * beat, beat * rng.uniform(0.6, 2), 0.5)
            first = int((begin + step * beat) * SAMPLE_RATE)
            count = min(int(0.15 * SAMPLE_RATE), length - first)
            if count > 0 and rng.random() < 0.7:
                out[first : first + count] += 0.4 * noise(rng, count) * np.exp(-np.arange(count) / 700)
        begin += 4 * beat
    return (out / (np.abs(out).max() + 1e-9)).astype(np.float32)


def narrow(pcm: np.ndarray, high: float, low: float = 0.0) -> np.ndarray:
    """Only the band from `low` to `high` Hz is left, as after a recording at a lower rate."""
    spectrum = np.fft.rfft(pcm)
    frequencies = np.fft.rfftfreq(len(pcm), 1 / SAMPLE_RATE)
    spectrum[(frequencies > high) | (frequencies < low)] = 0
    return np.fft.irfft(spectrum, len(pcm)).astype(np.float32)


def spoiled(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """A recording (peak 0.5) as a microphone may hear it: level −14 to +6 dB, and by chance in a room, narrow,
    through another microphone, noisy, overdriven, with a gap."""
    gain = 10 ** (rng.uniform(-14, 6) / 20)
    out = pcm
    if rng.random() < 0.35:
        out = in_room(rng, out)
    if rng.random() < 0.3:
        out = narrow(out, rng.choice([3_400, 3_900, 5_500, 7_900]), rng.choice([0, 0, 100, 250, 300]))
    if rng.random() < 0.4:
        out = through_microphone(rng, out)
    out = out * gain
    if rng.random() < 0.6:
        level = 10 ** (rng.uniform(-75, -38) / 20)
        out = out + level * noise(rng, len(out))
    if rng.random() < 0.15:
        out = overdriven(rng, out)
    if rng.random() < 0.08:
        out = gapped(rng, out)
    return np.clip(out, -1, 1)


def through_microphone(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """Another microphone: a gentle slope and a resonance."""
    spectrum = np.fft.rfft(pcm)
    octave = np.log2(np.maximum(np.fft.rfftfreq(len(pcm), 1 / SAMPLE_RATE), 60) / 1000)
    curve = rng.uniform(-3, 3) * octave + rng.uniform(-6, 6) * np.exp(-((octave - rng.uniform(-2, 3)) ** 2))
    return np.fft.irfft(spectrum * 10 ** (curve / 20), len(pcm)).astype(np.float32)


def overdriven(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """What is 6 to 22 dB below the peak and louder is cut off; the peak stays."""
    peak = np.abs(pcm).max() + 1e-9
    return (peak * np.clip(pcm * 10 ** (rng.uniform(6, 22) / 20) / peak, -1, 1)).astype(np.float32)


def gapped(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """A gap of 20 to 160 ms, as of a packet that did not come."""
    out, length = pcm.copy(), int(SAMPLE_RATE * rng.uniform(0.02, 0.16))
    begin = int(rng.integers(max(1, len(pcm) - length)))
    out[begin : begin + length] = 0
    return out


def in_room(rng: np.random.Generator, pcm: np.ndarray, decibels: tuple[float, float] = (-15, 9)) -> np.ndarray:
    """`pcm` as a room answers it: the sound itself, then noise that dies away by 60 dB in 0.15 to 0.9 s.

    The answer is so many dB above the sound, more of them far from the person; what is heard is as loud as `pcm`.
    (Polack's model of late reverberation, 1988.)
    """
    length = int(SAMPLE_RATE * rng.uniform(0.15, 0.9))
    answer = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    answer *= 10 ** (rng.uniform(*decibels) / 20) / np.sqrt(np.sum(answer**2))
    answer[: int(rng.uniform(0, 0.006) * SAMPLE_RATE)] = 0
    answer[0] = 1
    out = through(pcm, answer)
    return (out * np.sqrt(np.sum(pcm**2) / (np.sum(out**2) + 1e-12))).astype(np.float32)


def through(pcm: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`pcm` as heard through an impulse response, of the same length."""
    size = -(-(len(pcm) + len(response)) // _EASY) * _EASY
    return np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(response, size), size)[: len(pcm)]
