"""Sentencepiece models whose pieces are whole words."""

import io
from collections.abc import Sequence
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
        minloglevel=2, normalization_rule_name="identity", hard_vocab_limit=True, **options,
    )  # fmt: skip
    return model.getvalue()


def word_tokens(model: bytes, words: Sequence[str]) -> dict[str, int]:
    """A word to its token, by a model of `word_model`."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = {word: pieces.encode(word) for word in words}
    assert all(len(found) == 1 and found[0] >= SPECIAL for found in ids.values()), ids
    return {word: found[0] for word, found in ids.items()}
