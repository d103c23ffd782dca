"""English read aloud by voices of other languages: every word in letters by which they come near to its sound.

flite tells the phones of a word; a table for each language tells how it writes them.
"""

import re
from collections.abc import Callable, Sequence

_LATIN = {
    "aa": "a", "ae": "a", "ah": "a", "ao": "o", "aw": "au", "ax": "a", "ay": "ai", "b": "b", "ch": "ch", "d": "d",
    "dh": "d", "eh": "e", "er": "er", "ey": "ei", "f": "f", "g": "g", "hh": "h", "ih": "i", "iy": "i", "jh": "j",
    "k": "k", "l": "l", "m": "m", "n": "n", "ng": "ng", "ow": "ou", "oy": "oi", "p": "p", "r": "r", "s": "s",
    "sh": "sh", "t": "t", "th": "t", "uh": "u", "uw": "u", "v": "v", "w": "u", "y": "y", "z": "s", "zh": "sh",
}  # fmt: skip
_CYRILLIC = {
    "aa": "а", "ae": "э", "ah": "а", "ao": "о", "aw": "ау", "ax": "а", "ay": "ай", "b": "б", "ch": "ч", "d": "д",
    "dh": "д", "eh": "э", "er": "эр", "ey": "эй", "f": "ф", "g": "г", "hh": "х", "ih": "ы", "iy": "и", "jh": "дж",
    "k": "к", "l": "л", "m": "м", "n": "н", "ng": "нг", "ow": "оу", "oy": "ой", "p": "п", "r": "р", "s": "с",
    "sh": "ш", "t": "т", "th": "т", "uh": "у", "uw": "у", "v": "в", "w": "у", "y": "й", "z": "з", "zh": "ж",
}  # fmt: skip
LETTERS = {
    "de": _LATIN | {
        "ae": "ä", "ax": "e", "ay": "ei", "ch": "tsch", "eh": "ä", "er": "ör", "ey": "äi", "iy": "ie",
        "jh": "dsch", "ow": "o", "oy": "eu", "s": "ß", "sh": "sch", "th": "s", "uw": "uh", "v": "w", "y": "j",
        "zh": "sch",
    },
    "es": _LATIN | {"hh": "j", "jh": "y", "th": "z", "sh": "ch", "v": "b", "zh": "y"},
    "fr": _LATIN | {
        "aw": "aou", "ax": "e", "ay": "aï", "ch": "tch", "eh": "è", "er": "eur", "ey": "éi", "hh": "", "jh": "dj",
        "m": "mm", "n": "nn", "ng": "ngu", "ow": "au", "oy": "oï", "s": "ss", "sh": "ch", "th": "ss", "uh": "ou",
        "uw": "ou", "w": "ou", "z": "z", "zh": "j",
    },
    "it": _LATIN | {
        "ch": "c", "hh": "", "jh": "g", "k": "c", "s": "ss", "sh": "sc", "y": "i", "zh": "sc",
    },
    "eo": _LATIN | {
        "aw": "aŭ", "ax": "e", "ay": "aj", "ch": "ĉ", "ey": "ej", "jh": "ĝ", "ow": "oŭ", "oy": "oj", "sh": "ŝ",
        "w": "v", "y": "j", "z": "z", "zh": "ĵ",
    },
    "ru": _CYRILLIC,
    "uk": _CYRILLIC | {"ae": "е", "eh": "е", "er": "ер", "ey": "ей", "g": "ґ", "ih": "и", "iy": "і", "w": "в"},
    "ky": _CYRILLIC | {"ax": "ы", "ih": "и", "jh": "ж", "ng": "ң", "er": "өр"},
}  # fmt: skip
"""How each language writes flite's phones."""

SPEAKERS = {
    "de-DE": ("pico", "de"), "es-ES": ("pico", "es"), "fr-FR": ("pico", "fr"), "it-IT": ("pico", "it"),
    "aleksandr": ("rhvoice", "ru"), "anna": ("rhvoice", "ru"), "elena": ("rhvoice", "ru"),
    "irina": ("rhvoice", "ru"), "anatol": ("rhvoice", "uk"), "natalia": ("rhvoice", "uk"),
    "azamat": ("rhvoice", "ky"), "nazgul": ("rhvoice", "ky"), "spomenka": ("rhvoice", "eo"),
}  # fmt: skip
"""A voice's synthesizer and language."""

_VOWELS = frozenset("aeiouäöüéèëïy")
_SOFT = frozenset("eiéèïy")  # before which c and g sound otherwise


def respelled(text: str, language: str, phones: Callable[[str], Sequence[str]]) -> str:
    """`text` as a voice of that language is to read it, with its commas and full stops.

    phones: those of a word, as flite tells them.
    """
    return re.sub(r"[\w']+", lambda word: _word(phones(word[0]), language), text)


def _word(phones: Sequence[str], language: str) -> str:
    spelled = [LETTERS[language][phone] for phone in phones]
    hard = {"it": {"c": "ch", "g": "gh"}, "es": {"g": "gu"}, "fr": {"g": "gu"}}.get(language, {})
    soft = {"it": {"c": "ci", "g": "gi", "sc": "sci"}}.get(language, {})
    out = ""
    for index, (phone, letters) in enumerate(zip(phones, spelled, strict=True)):
        after = next((one for one in spelled[index + 1 :] if one), "")
        if phone in ("g", "k") and after[:1] in _SOFT:
            letters = hard.get(letters, letters)
        elif phone in ("ch", "jh", "sh", "zh") and after[:1] not in _SOFT:
            letters = soft.get(letters, letters)
        out += letters
    if language == "fr" and out and out[-1] not in _VOWELS:
        out += "e"  # or the last consonant is silent
    return out
