"""Text tokens to text: sentencepiece, wrapped once."""

import codecs
from collections.abc import Iterable
from pathlib import Path

from moshi_mlx.errors import CheckpointError, DataError, fetch_again

SPACE = "\u2581"  # how sentencepiece writes a space inside a piece


class TextTokenizer:
    """The pieces of a sentencepiece model.

    silent: ids that mean "nothing is spoken" (Moshi: 3 padding, 0 end of padding); control, unknown and unused
    pieces are silent by themselves. Raises CheckpointError if the file is not a sentencepiece model.
    """

    def __init__(self, path: Path, silent: Iterable[int] = (0, 3)) -> None:
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.Load(str(path))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"cannot load the tokenizer {path} ({error}); {fetch_again(path)}") from error
        self.path = path
        self.size: int = processor.get_piece_size()
        self._processor = processor
        self._silent = frozenset(silent)

    def raw(self, id: int) -> bytes:
        """Return a token's UTF-8 bytes, which may end within a character; none for silent and unknown ids.

        sentencepiece's own sign for a space becomes a space.
        """
        sp = self._processor
        if id in self._silent or not 0 <= id < self.size:
            return b""
        if sp.is_control(id) or sp.is_unknown(id) or sp.is_unused(id):
            return b""
        text = sp.id_to_piece(id)
        if sp.is_byte(id):  # "<0xE2>"
            return bytes([int(text[3:-1], 16)])
        return text.replace(SPACE, " ").encode()

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text. Raises DataError for half a character, as JSON can bring it."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"the text is not UTF-8: character {error.start + 1} is half of one") from None
        return list(self._processor.encode(text))

    def lacks(self, word: str) -> bool:
        """Whether a word, in these tokens, is nothing but unknown pieces and punctuation. Raises as `encode`."""
        tokens = self.encode(word)
        unknown = [id for id in tokens if self._processor.is_unknown(id)]
        return bool(unknown) and not any(map(str.isalnum, self.decode(tokens)))

    def stream(self) -> "TextStream":
        """Return a decoder for one conversation."""
        return TextStream(self)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of a whole sequence, without the space before its first word."""
        stream = self.stream()
        text = "".join([stream.push(id) for id in ids]) + stream.flush()
        return text.removeprefix(" ")


class TextStream:
    """Turns tokens into text one by one, holding back the bytes of a character until it is whole."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """Add a token; return the text that can be shown now, "" for silent tokens and unfinished characters."""
        return self._decoder.decode(self._tokenizer.raw(id))

    def flush(self) -> str:
        """End the text: return U+FFFD for a character that was never finished, else "". Starts afresh."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
