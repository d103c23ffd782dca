"""Sentencepiece models whose pieces are whole words."""

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SPECIAL = 4  # tokens before the words: EPAD, two that are not used, PAD


def word_model(sentences: Sequence[str], count: int, **options: Any) -> bytes:
    """A sentencepiece model with Moshi's special tokens and one piece for each of `count` words.

    options: further ones of sentencepiece's trainer.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, model_type="word",
        vocab_size=SPECIAL + count, unk_id=0, bos_id=1, eos_id=2, pad_id=3, num_threads=1,
        minloglevel=2, hard_vocab_limit=True, **{"normalization_rule_name": "identity", **options},
    )  # fmt: skip
    return model.getvalue()


def reading_model(words: Sequence[str], rules: Mapping[str, str]) -> bytes:
    """As `word_model`, a piece for each of `words`, of a text that is rewritten. rules: what becomes what."""
    lines = [[" ".join(f"{ord(char):X}" for char in side) for side in rule] for rule in rules.items()]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rules.tsv"
        table.write_text("".join(f"{before}\t{after}\n" for before, after in lines))
        return word_model(words, len(words), character_coverage=1.0, normalization_rule_tsv=str(table))


def word_tokens(model: bytes, words: Sequence[str]) -> dict[str, int]:
    """A word to its token, by a model of `word_model`."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = {word: pieces.encode(word) for word in words}
    assert all(len(found) == 1 and found[0] >= SPECIAL for found in ids.values()), ids
    return {word: found[0] for word, found in ids.items()}
