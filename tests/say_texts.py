"""Scripts to be spoken, a tokenizer and a model's wishes that two programs can make alike, for the say golden."""

import numpy as np

BREAKS = '<break time="0.4s"/>'
WRITTEN: list[list[str]] = [
    ["Good morning."],
    ["Good morning, how did you sleep last night?", "Very well, thank you!"],
    ["", "The other voice begins."],
    ["", "The other voice begins.", "And this one answers.", "", "Then it goes on."],
    ["One.", "", "Three, by the same voice as one."],
    ["  spaces   between\twords\nand lines  "],
    ["It costs 1,299.50 euros (or $1,400): that's 12:30 o'clock, 3/4 of it."],
    ["It’s the child’s “quoted” word – with dashes — and … dots."],
    [f"Wait {BREAKS} for it."],
    [f"{BREAKS} first, a pause"],
    [f"a pause at the end {BREAKS}"],
    [f"two {BREAKS} {BREAKS} pauses", f"{BREAKS}glued{BREAKS}pause"],
    ['<break time="1s"> unclosed, <break time="2"/> without unit, <break time="1.5s" /> with a space'],
    ["Donaudampfschifffahrtsgesellschaftskapitänsmützenfabrik " + "a" * 120 + " end"],
    ["(((", ")))", ":::", "()", "a:b:c"],
    [""],
    ["", "", ""],
    ["Ça va très bien, où êtes-vous?", "日本語 の テキスト", "🙂 👍🏽"],
    ["a b c d e f g h i j"],
    ["I", "you", "he", "she", "it", "we"],
    ["e-mail me@example.com or see https://example.com/a?b=c&d=1"],
    ["What?! No... Yes!!! Maybe; perhaps, \"quite\" 'so'."],
]
SENTENCE = "the harbour was quiet, and boats 1984 moved (slowly) with it’s wind: no? yes! antidisestablishment"
WORDS = SENTENCE.split(" ")


def texts() -> list[list[str]]:
    """A hundred scripts, each a list of turns."""
    random = np.random.RandomState(21)
    made = [list(script) for script in WRITTEN]
    while len(made) < 100:
        turns = []
        for _ in range(random.randint(1, 4)):
            words = [WORDS[k] for k in random.randint(0, len(WORDS), random.randint(0, 12))]
            if words and random.randint(0, 4) == 0:
                words.insert(random.randint(0, len(words)), BREAKS)
            turns.append(" ".join(words))
        made.append(turns)
    return made


def encode(word: str) -> list[int]:
    """Tokens of a word, 4 to 11, one for three bytes."""
    data = word.encode()
    return [4 + sum(data[start : start + 3]) % 8 for start in range(0, len(data), 3)]


def wishes(seed: int, count: int) -> list[int]:
    """What a model would like to write at each step: 0 begins a word, all others do not."""
    return [int(one) for one in np.random.RandomState(seed).randint(0, 5, count)]


def voice(seed: int) -> np.ndarray:
    """A file's vectors of a speaker, (1, 16, 5) float32."""
    return np.random.RandomState(seed).standard_normal((1, 16, 5)).astype(np.float32)
