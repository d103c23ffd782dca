"""Tokens to text, with sentencepiece models trained on the spot."""

import io
from pathlib import Path

import pytest
import sentencepiece

from moshi_mlx.checkpoint.random_checkpoint import SENTENCES, train_tokenizer
from moshi_mlx.checkpoint.tokenizer import TextTokenizer
from moshi_mlx.errors import CheckpointError, DataError

UNK, BOS, EOS, PAD = range(4)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "tokenizer.model"
    path.write_bytes(train_tokenizer(600))  # large enough for byte pieces
    return path


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> TextTokenizer:
    return TextTokenizer(path)


@pytest.fixture(scope="module")
def oracle(path: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def test_sentencepieces_space_is_a_space(tokenizer, oracle) -> None:
    ids = oracle.encode("good morning")
    assert b"".join(tokenizer.raw(id) for id in ids) == b" good morning"
    assert tokenizer.decode(ids) == "good morning"


@pytest.mark.parametrize("id", [UNK, BOS, EOS, PAD, -1, -2, 600, 10**6])
def test_what_nobody_speaks_is_empty(tokenizer, id: int) -> None:
    assert tokenizer.raw(id) == b""
    assert tokenizer.stream().push(id) == ""


@pytest.mark.parametrize("text", ["caf\udce9", "\ud83d"])
def test_half_a_character_is_refused(tokenizer, text: str) -> None:
    with pytest.raises(DataError, match=f"not UTF-8: character {len(text)} is half of one"):
        tokenizer.encode(text)


def test_silent_ids_are_the_models_choice(path: Path) -> None:
    spoken = TextTokenizer(path).decode([100])
    assert spoken
    assert TextTokenizer(path, silent=(0, 100)).decode([100]) == ""


@pytest.mark.parametrize("text", [*SENTENCES[:3], "naïve café", "日本語 and 𝄞 music", "€"])
def test_decoding_undoes_encoding_also_by_bytes(tokenizer, oracle, text: str) -> None:
    ids = oracle.encode(text)
    assert tokenizer.decode(ids) == oracle.decode(ids) == text


def test_a_character_split_over_tokens_comes_out_when_it_is_whole(tokenizer, oracle) -> None:
    ids = [oracle.piece_to_id(f"<0x{byte:02X}>") for byte in "é€".encode()]
    stream = tokenizer.stream()
    assert [stream.push(id) for id in ids] == ["", "é", "", "", "€"]
    assert stream.flush() == ""


def test_padding_inside_a_character_does_not_break_it(tokenizer, oracle) -> None:
    first, second = (oracle.piece_to_id(f"<0x{byte:02X}>") for byte in "é".encode())
    assert tokenizer.decode([first, PAD, UNK, second]) == "é"


def test_a_character_never_finished_is_shown_as_broken_once(tokenizer, oracle) -> None:
    first = oracle.piece_to_id("<0xE2>")
    word = oracle.encode("good")[0]
    stream = tokenizer.stream()
    assert stream.push(first) == ""
    assert stream.push(word) == "\ufffd" + tokenizer.raw(word).decode()
    stream.push(first)
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


def test_a_byte_is_a_token_of_its_own(tokenizer, oracle) -> None:
    assert tokenizer.raw(oracle.piece_to_id("<0xE2>")) == b"\xe2"
    assert tokenizer.raw(oracle.piece_to_id("<0x41>")) == b"A"


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(1000)], ids=["empty", "html", "zeros"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot load the tokenizer .*tokenizer\.model \(.+\)"):
        TextTokenizer(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot load the tokenizer .*tokenizer\.model \(.*No such file"):
        TextTokenizer(tmp_path / "tokenizer.model")


def test_a_truncated_model_is_refused(tmp_path: Path, path: Path) -> None:
    cut = tmp_path / "cut.model"
    cut.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut\.model"):
        TextTokenizer(cut)


def test_unigram_models_work_as_well(tmp_path: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, vocab_size=90, pad_id=3, minloglevel=2
    )
    path = tmp_path / "unigram.model"
    path.write_bytes(model.getvalue())
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert TextTokenizer(path).decode(oracle.encode(SENTENCES[0])) == oracle.decode(oracle.encode(SENTENCES[0]))


def test_a_word_of_which_nothing_is_known_is_lacking(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["good", "morning", "good . , n a ve"]), model_writer=model, model_type="word",
        vocab_size=11, unk_id=0, bos_id=1, eos_id=2, pad_id=3, minloglevel=2, character_coverage=1.0,
    )  # fmt: skip
    path = tmp_path / "words.model"
    path.write_bytes(model.getvalue())
    words = TextTokenizer(path)
    assert [words.lacks(word) for word in ("good", "evening", "good evening", ".", "evening .", "")] == [
        False, True, False, False, True, False,
    ]  # fmt: skip
    assert not tokenizer.lacks("Zürich 東京"), "bytes can say anything"
