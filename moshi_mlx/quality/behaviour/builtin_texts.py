"""What the users of the builtin scenes say, and words that a right answer holds.

The questions are the ones that Nano knows and that have one answer, so a larger model is measured by them, too.
"""

from __future__ import annotations

QUESTIONS: dict[str, tuple[str, ...]] = {
    "What is the capital of France?": ("Paris",),
    "What is the capital of Italy?": ("Rome",),
    "What is the capital of Germany?": ("Berlin",),
    "What is the capital of Japan?": ("Tokyo",),
    "What is the capital of Spain?": ("Madrid",),
    "What color is the sky?": ("blue",),
    "What color is grass?": ("green",),
    "What color is snow?": ("white",),
    "What color is a banana?": ("yellow",),
    "What is two plus two?": ("four", "4"),
    "What is three plus five?": ("eight", "8"),
    "What is ten minus four?": ("six", "6"),
    "How many days are in a week?": ("seven", "7"),
    "How many months are in a year?": ("twelve", "12"),
    "How many hours are in a day?": ("twenty four", "24"),
    "What do bees make?": ("honey",),
    "Where do fish live?": ("water", "sea", "ocean"),
    "What do cows give us?": ("milk",),
    "Who wrote Hamlet?": ("Shakespeare",),
    "What is the largest ocean?": ("Pacific",),
    "What is the tallest mountain?": ("Everest",),
    "What is the longest river?": ("Nile",),
    "What planet do we live on?": ("Earth",),
    "When does the sun rise?": ("morning", "dawn"),
    "What comes after Monday?": ("Tuesday",),
    "What is frozen water called?": ("ice",),
    "How many legs does a spider have?": ("eight", "8"),
    "What is the opposite of hot?": ("cold",),
}

HESITATIONS: tuple[tuple[str, str], ...] = tuple(
    (" ".join(words[:at]), " ".join(words[at:]))
    for words, at in ((question.split(), max(2, len(question.split()) - 2)) for question in QUESTIONS)
    if len(words) >= 4
)
"""Questions in two parts, between which the user thinks."""

STOPS = ("Stop.", "Wait.", "Hold on.")

LISTENING = ("Uh huh.", "Okay.", "I see.", "Right.")
"""What a user says without wanting to speak."""

ASIDES = (
    "Put it on the table, please.",
    "The bus leaves at half past nine.",
    "She said that he would call later.",
)
"""Said in the background, by another person."""

STORIES: tuple[tuple[str, ...], ...] = (
    (
        "Yesterday I went down to the harbor with my brother.",
        "We wanted to look at the old boats, but most of them had gone.",
        "So we bought some bread and sat on the wall.",
        "After an hour it began to rain, and we walked home.",
    ),
    (
        "My neighbor keeps a garden behind the house.",
        "In spring he plants beans, and in summer he gives half of them away.",
        "Last year there were so many that he could not carry them.",
        "Now he wants to plant apples, too.",
    ),
    (
        "When I was small, we moved to a town in the north.",
        "The school was far away, and the bus was always late.",
        "I read a whole shelf of books while I waited.",
        "That is how I learned to like long stories.",
    ),
    (
        "Our train stood in the middle of a field for two hours.",
        "Nobody told us why, and the lights went out.",
        "Somebody took a guitar and began to play.",
        "In the end we were almost sorry to go on.",
    ),
)
