"""Voices as PersonaPlex's files hold them."""

import mlx.core as mx
import numpy as np

from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.tasks.persona import build, steady_codes


def heard_voice(moshi: Moshi, codes: np.ndarray) -> dict[str, mx.array]:
    """The file of a voice, from the codes of what it says, [8, frames].

    embeddings: [frames - 1, 1, 1, dim], the inputs of as many positions; cache: [1, 1 + n_q, slots], the tokens of
    the latest ones, position p in slot p % slots.
    Source: NVIDIA's fork of moshi, models/lm.py `load_voice_prompt_embeddings`.
    """
    config = moshi.lm.config
    prompt = build(config, [], codes.T.astype(np.int32), *steady_codes(moshi))
    with moshi.session(0) as session:
        session.prompt = prompt
        columns = session.begin()[: codes.shape[1] - 1]
    embeddings = moshi.lm.embed(mx.array(np.stack(columns, axis=1)[None]))[0]
    slots = max(config.delays) + 3
    cache = np.zeros((1 + config.n_q, slots), np.int64)
    streams = np.concatenate([prompt.texts[:, None], prompt.codes, prompt.user_codes], axis=1)
    for frame in range(codes.shape[1]):
        cache[np.arange(len(cache)), (frame + np.array(config.delays)) % slots] = streams[frame]
    return {"embeddings": embeddings.astype(mx.float32)[:, None, None], "cache": mx.array(cache)[None]}
