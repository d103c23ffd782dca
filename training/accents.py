"""English by festival's voices of other languages, joined from the diphones of these.

flite tells the phones of a sentence and how long they last; each is said as the nearest ones of the language.
"""

import numpy as np

_MOSTLY = {
    "aa": "a", "ae": "a", "ah": "a", "ao": "o", "aw": "a u", "ax": "e", "ay": "a i", "b": "b", "d": "d", "dh": "d",
    "eh": "e", "er": "e r", "ey": "e i", "f": "f", "g": "g", "hh": "h", "ih": "i", "iy": "i", "k": "k", "l": "l",
    "m": "m", "n": "n", "ng": "n g", "ow": "o u", "oy": "o i", "p": "p", "r": "r", "s": "s", "sh": "s", "t": "t",
    "th": "t", "uh": "u", "uw": "u", "v": "v", "w": "v", "y": "j", "z": "s", "zh": "s",
}  # fmt: skip
_OWN = {
    "italian": {
        "ae": "a E", "ao": "O", "ax": "E", "ch": "tS", "eh": "E", "er": "E r", "hh": "", "jh": "dZ", "oy": "O i",
        "sh": "S", "w": "w", "z": "z", "zh": "Z",
    },
    "spanish": {
        "ch": "ch", "hh": "x", "jh": "ll", "sh": "ch", "th": "th", "v": "b", "w": "u", "y": "i", "zh": "ll",
    },
    "finnish": {"ae": "@", "ax": "7", "ch": "t s", "er": "7 r", "iy": "i:", "jh": "t s", "ng": "N", "uw": "u:"},
    "czech": {
        "ae": "e", "ao": "o:", "ay": "a j", "ch": "c~", "ey": "e j", "jh": "dz~", "ng": "n* g", "oy": "o j",
        "sh": "s~", "z": "z", "zh": "z~",
    },
}  # fmt: skip
LANGUAGES = {language: _MOSTLY | own for language, own in _OWN.items()}
"""How each language says flite's phones."""

SPEAKERS = {
    "lp_diphone": ("italian", 185), "pc_diphone": ("italian", 115), "el_diphone": ("spanish", 110),
    "suo_fi_lj_diphone": ("finnish", 185), "hy_fi_mv_diphone": ("finnish", 100), "czech_dita": ("czech", 190),
    "czech_krb": ("czech", 240), "czech_machac": ("czech", 105), "czech_ph": ("czech", 115),
}  # fmt: skip
"""A voice's language and its pitch in Hz."""
SILENCE, PAUSE = "pau", "#"  # as flite and as festival's voices call it
VOWELS = frozenset(
    ["aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"]
)
FALL = (1.15, 0.82)  # of the pitch, from the first vowel to the last
LIVELY = 0.1  # by which the pitch of a vowel differs from that line


def as_segments(rng: np.random.Generator, name: str, ends: list[tuple[str, float]], pitch: float) -> str:
    """What festival is to say, as a list of its own: phones, how long each lasts, pitch.

    rng: of the melody. ends: flite's phones and the second at which each ends. pitch: a factor of the voice's own.
    """
    language, height = SPEAKERS[name]
    table = LANGUAGES[language]
    vowels = max(1, sum(phone in VOWELS for phone, _ in ends))
    seen, begin, spare = 0, 0.0, 0.0
    said: list[tuple[str, float, str]] = []
    for phone, end in ends:
        length, begin = end - begin + spare, end
        parts = table[phone].split() if phone != SILENCE else [PAUSE]
        spare = 0.0 if parts else length  # what a language cannot say lengthens what comes next
        target = ""
        if phone in VOWELS:
            line = FALL[0] + (FALL[1] - FALL[0]) * seen / vowels
            hertz = height * pitch * line * np.exp(rng.normal(0, LIVELY))
            target = f" ({length / len(parts) / 2:.3f} {hertz:.0f})"
            seen += 1
        said += [(part, length / len(parts), target * (not index)) for index, part in enumerate(parts)]
    spoken = [part for part, *_ in said]
    if language == "czech":
        spoken = _assimilated(spoken)
    listed = (f"({part} {length:.4f}{target})" for part, (_, length, target) in zip(spoken, said, strict=True))
    return f"({' '.join(listed)})"


def _assimilated(spoken: list[str]) -> list[str]:
    """Phones as Czech joins them: obstruents are voiced as the next one is, and not at the end."""
    out = list(spoken)
    for index in range(len(out) - 2, -1, -1):
        if out[index + 1] in (PAUSE, *_VOICELESS.values()):
            out[index] = _VOICELESS.get(out[index], out[index])
        elif out[index + 1] in {*_VOICELESS, "h"} - {"v"}:
            out[index] = _VOICED.get(out[index], out[index])
    return out


_VOICELESS = {"b": "p", "d": "t", "g": "k", "v": "f", "z": "s", "z~": "s~", "dz~": "c~"}
_VOICED = {other: one for one, other in _VOICELESS.items()}
