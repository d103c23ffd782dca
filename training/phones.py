"""One set of phones for all synthesizers, and the tables into it."""

PHONES = (
    "pau", "aa", "ae", "ah", "ao", "aw", "ax", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh", "ih",
    "iy", "jh", "k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z",
    "zh",
)  # fmt: skip
"""Those of flite; index 0 is silence."""

IGNORE = 255
"""The label of a sound that belongs to none of them: no loss is taken there."""

_ESPEAK = {
    "a": "ae", "aa": "ae", "a#": "ax", "A:": "aa", "A": "aa", "A@": "aa", "0": "aa", "0#": "aa", "O": "ao", "O:": "ao",
    "O@": "ao", "o@": "ao", "O2": "ao", "V": "ah", "@": "ax", "@2": "ax", "@5": "ax", "3": "er", "3:": "er",
    "@r": "er", "E": "eh", "e": "eh", "e@": "eh", "E@": "eh", "E2": "eh", "I": "ih", "I2": "ih", "I#": "ih",
    "i": "iy", "i:": "iy", "i2": "iy", "i@": "iy", "i@3": "iy", "U": "uh", "U@": "uh", "u": "uw", "u:": "uw",
    "eI": "ey", "e:": "ey", "aI": "ay", "aI@": "ay", "aI3": "ay", "aU": "aw", "aU@": "aw", "oU": "ow", "o": "ow",
    "o:": "ow", "OI": "oy", "p": "p", "b": "b", "t": "t", "t#": "t", "t2": "t", "d": "d", "d#": "d", "k": "k", "g": "g",
    "tS": "ch", "dZ": "jh", "f": "f", "v": "v", "T": "th", "D": "dh", "s": "s", "z": "z", "z#": "z", "S": "sh",
    "Z": "zh", "h": "hh", "m": "m", "n": "n", "N": "ng", "l": "l", "@L": "l", "l^": "l", "r": "r", "r-": "r", "r/": "r",
    "R": "r", "j": "y", "w": "w", "?": "t", "n-": "n", "m-": "m",
}  # fmt: skip


def from_flite(name: str) -> int:
    """The index of flite's phone."""
    return PHONES.index(name) if name in PHONES else IGNORE


def from_espeak(name: str) -> int:
    """The index nearest to an espeak-ng mnemonic: its own, or that of what it begins with."""
    if not name or name.startswith("_"):
        return 0
    while name:
        if name in _ESPEAK:
            return PHONES.index(_ESPEAK[name])
        name = name[:-1]
    return IGNORE
