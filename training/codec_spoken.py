"""Batches for the decoder alone: what the language models will send it, and how that is to sound."""

import numpy as np
import torch

from training import persona_text
from training.answers import FADE
from training.answers import LEAD_FRAMES as LEAD
from training.codec import FRAME
from training.tts_speech import Words

AT_ONCE, STREAM_FRAMES = 6, 42
SENTENCE_SHARE = 0.5  # of the rows are what `nano-tts` says
OFTEN = 3  # times as often as what `nano-persona` says in Nano's voice come Nano's answers, and the second voice


def spoken_batches(
    rng: np.random.Generator,
    silence: np.ndarray,
    own: dict[str, np.ndarray],
    streams: dict[str, np.ndarray],
    words: Words | None = None,
    size: int = AT_ONCE,
):
    """Whole answers as the language model will send them, every fourth one cut short: samples and codes.

    With `words`, SENTENCE_SHARE of the rows are sentences made of these.
    """
    order: list[str] = []
    texts = [text for text in streams for _ in range(1 if persona_text.in_first(text) else OFTEN)]

    def make() -> tuple[torch.Tensor, torch.Tensor]:
        pcm = np.zeros((size, STREAM_FRAMES * FRAME), np.float32)
        codes = np.repeat(silence[None, :, None], size, 0).repeat(STREAM_FRAMES, 2).astype(np.int64)
        for row in range(size):
            if words and rng.random() < SENTENCE_SHARE:
                sentence = words.any(rng)
                said = sentence.codes[:, : STREAM_FRAMES - LEAD]
                stream = np.pad(sentence.pcm, (LEAD * FRAME, 0))
            else:
                if not order:
                    order.extend(rng.permutation(texts).tolist())
                text = order.pop()
                said, stream = own[text], streams[text]
            frames = said.shape[1]
            begin = int(rng.integers(LEAD, STREAM_FRAMES - frames + 1))
            kept = int(rng.integers(1, frames)) if rng.random() < 0.25 else frames
            codes[row, :, begin : begin + kept] = said[:, :kept]
            sound = stream[LEAD * FRAME : (LEAD + frames) * FRAME].copy()
            if kept < frames:
                sound[kept * FRAME :][:FADE] *= np.linspace(1, 0, FADE, dtype=np.float32)
                sound[kept * FRAME + FADE :] = 0
            pcm[row, begin * FRAME : (begin + frames) * FRAME] = sound
        return torch.from_numpy(pcm), torch.from_numpy(codes)

    return make
