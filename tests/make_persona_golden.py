"""Make tests/assets/persona.npz and persona_voice.pt: what NVIDIA's fork of moshi says after a voice and a role.

    python tests/make_persona_golden.py CLONE    in the reference environment of CONTRIBUTING.md

CLONE is a clone of NVIDIA/personaplex; its `moshi` is imported in place of Kyutai's. Its LMGen runs as its server
runs it: prompts first, then 300 frames of a user, whose codes are forced. Weights are made from their names. The
voice is a recording's codes at first; LMGen saves what it read in them as it saves published voices, and that
file is played again.

The window is longer than all of it: once full, the fork's ring gives its oldest key the position that comes next,
which the mask hides, so it attends to one position less than its config says (and Kyutai's moshi does).
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from random_weights import random_tensor

ASSETS = Path(__file__).parent / "assets"
FRAMES = 300
CONFIG = {
    "dim": 64, "num_heads": 4, "num_layers": 3, "text_card": 48, "card": 2048, "n_q": 16, "dep_q": 16,
    "existing_text_padding_id": 3, "causal": True, "gating": "silu", "norm": "rms_norm_f32", "context": 400,
    "max_period": 10_000, "positional_embedding": "rope", "hidden_scale": 4.125,
    "delays": [0] + ([0] + [1] * 7) * 2, "depformer_dim": 32, "depformer_num_heads": 4, "depformer_num_layers": 2,
    "depformer_multi_linear": True, "depformer_gating": "silu", "depformer_pos_emb": "none",
    "depformer_weights_per_step": True, "depformer_dim_feedforward": None, "depformer_context": 8,
}  # fmt: skip
VOICE_FRAMES = 12
TEXT = [7, 21, 5, 40, 9, 33, 18]
OTHER_TEXT = [7, 21, 5, 41, 9, 33, 18]


def main() -> None:
    sys.path.insert(0, str(Path(sys.argv[1]) / "moshi"))
    from moshi.models.lm import LMGen, LMModel

    torch.set_num_threads(1)
    lm = LMModel(device="cpu", dtype=torch.float32, **CONFIG)
    shapes = {key: tuple(value.shape) for key, value in lm.state_dict().items()}
    lm.load_state_dict({key: torch.from_numpy(random_tensor(key, shape)) for key, shape in shapes.items()})
    lm.eval()
    random = np.random.RandomState(11)
    voice = random.randint(0, 2048, (VOICE_FRAMES, 8))
    user, other_user = random.randint(0, 2048, (2, FRAMES, 8))
    folder = Path(tempfile.mkdtemp())
    saved = folder / "voice.pt"

    def generator(text: list[int]) -> LMGen:
        made = LMGen(
            lm,
            device="cpu",
            use_sampling=False,
            check=True,
            audio_silence_frame_cnt=6,
            sample_rate=24_000,
            frame_rate=12.5,
            text_prompt_tokens=text,
        )
        made.streaming_forever(1)
        return made

    def talk(generator: LMGen, user: np.ndarray) -> np.ndarray:
        """Rows [text, codes], (FRAMES, 9)."""
        generator.step_system_prompts(None)
        rows = []
        for codes in user:
            out = generator.step(torch.from_numpy(codes)[None, :, None])
            rows.append(out[0, :9, 0].tolist())
        return np.array(rows)

    def spoken(text: list[int], user: np.ndarray, save: bool = False) -> np.ndarray:
        made = generator(text)
        made.voice_prompt, made.voice_prompt_audio = str(folder / "voice.wav"), torch.zeros(1)
        made.save_voice_prompt_embeddings = save
        made._encode_voice_prompt_frames = lambda mimi: (torch.from_numpy(codes)[None, :, None] for codes in voice)
        return talk(made, user)

    def read(text: list[int], user: np.ndarray) -> np.ndarray:
        made = generator(text)
        made.load_voice_prompt_embeddings(str(saved))
        return talk(made, user)

    with torch.no_grad():
        rows = spoken(TEXT, user, save=True)
        again = read(TEXT, user)
        other_text, other_heard = read(OTHER_TEXT, user), read(TEXT, other_user)
        other_voice = talk(generator(TEXT), user)
    assert (rows == again).all(), "a saved voice is the recording's"
    for other in (other_text, other_heard, other_voice):
        assert (rows[2:] != other[2:]).any(), "prompts and the user decide what is said"
    (ASSETS / "persona_voice.pt").write_bytes(saved.read_bytes())
    path = ASSETS / "persona.npz"
    np.savez_compressed(
        path,
        config=json.dumps(CONFIG),
        shapes=json.dumps(shapes),
        text=np.array(TEXT, np.int16),
        voice=voice.astype(np.int16),
        user=user.astype(np.int16),
        rows=rows.astype(np.int16),
    )
    texts, codes = len(set(rows[:, 0].tolist())), len(set(rows[:, 1].tolist()))
    print(path.name, path.stat().st_size, "bytes;", texts, "different text tokens,", codes, "first codes")


if __name__ == "__main__":
    main()
