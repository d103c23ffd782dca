"""What `nano-persona` reads and writes: every word of its prompts and answers is one token."""

from functools import cache

from moshi_mlx.tasks.persona import tagged
from training.persona_text import personas, said
from training.text import SPECIAL
from training.word_pieces import word_model, word_tokens


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word of every prompt and answer, with its punctuation, in order of first use."""
    texts = (*(tagged(one.prompt) for one in personas()), *said())
    return tuple(dict.fromkeys(word for text in texts for word in text.split()))


@cache
def tokenizer_model() -> bytes:
    """The sentencepiece model."""
    return word_model(vocabulary(), len(vocabulary()), character_coverage=1.0)


@cache
def token_ids() -> dict[str, int]:
    """A word to its token."""
    return word_tokens(tokenizer_model(), vocabulary())


def prompt_tokens(prompt: str) -> list[int]:
    """A text prompt between its tags, as the package's tokenizer reads it."""
    return [token_ids()[word] for word in tagged(prompt).split()]


def text_card() -> int:
    """The size of the text vocabulary."""
    return SPECIAL + len(vocabulary())
