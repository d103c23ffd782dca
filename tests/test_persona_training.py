"""What `nano-persona` is taught by: its words, the frames of its prompts, the files of its voices."""

import json
import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.tokenizer import TextTokenizer
from moshi_mlx.checkpoint.voices import Voice, read_voice
from moshi_mlx.finetune.loss import delayed
from moshi_mlx.finetune.start import write_start
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.persona import build, steady_codes, tagged
from moshi_mlx.weights.quantization import RECIPES, UNQUANTIZED
from tests.persona_folder import write_persona
from training import persona_words
from training.persona_lm import config
from training.persona_prompts import LONGEST, NOBODY, SHORTEST, Prompts, Steady
from training.persona_start import write_learned
from training.persona_text import VOICES, key, personas, said
from training.persona_voices import heard_voice
from training.pitch import pitch

CONFIG = LmConfig.from_dict(config())
STEADY = Steady(np.full(8, 7), np.full(8, 9))


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    """Of answers whose codes are 100 in the female voice and 200 in the male one."""
    answers = {
        key(voice, text): np.full((8, 10), 100 + 100 * number)
        for number, voice in enumerate(VOICES)
        for text in said()
    }
    return Prompts(CONFIG, STEADY, answers, [])


def test_training_goes_on_from_the_packages_weights_dense_again(tmp_path: Path) -> None:
    learned = Checkpoint.resolve(nano.PERSONA_NAME, offline=True)
    write_learned(tmp_path, learned, RECIPES[UNQUANTIZED])
    write_start(tmp_path / "start.safetensors", config(), 1)
    files = {
        "mimi_name": learned.mimi_weights,
        "mimi_config_name": learned.mimi_config_file,
        "tokenizer_name": learned.tokenizer,
    }
    around = {name: os.path.relpath(str(path), tmp_path) for name, path in files.items()}

    def lm(name: str) -> Lm:
        (tmp_path / "config.json").write_text(json.dumps({**config(), **around, "moshi_name": name}))
        return Checkpoint.resolve(tmp_path, offline=True).load_lm()

    found, wanted = lm("model.safetensors"), lm("start.safetensors")
    assert shapes(found) == shapes(wanted)
    hidden = mx.random.normal((3, config()["dim"]), key=mx.random.key(0))
    np.testing.assert_allclose(found.text_linear(hidden), learned.load_lm().text_linear(hidden), atol=0.03)


def shapes(lm: Lm) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in parameters(lm).items()}


def test_the_packages_tokenizer_reads_every_prompt_word_by_word(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(persona_words.tokenizer_model())
    tokenizer = TextTokenizer(tmp_path / "tokenizer.model")
    assert tokenizer.size == CONFIG.text_card
    for one in personas():
        tokens = tokenizer.encode(tagged(one.prompt))
        assert tokens == persona_words.prompt_tokens(one.prompt)
        assert tokenizer.decode(tokens) == tagged(one.prompt)
    for text in said():
        assert tokenizer.decode(persona_words.token_ids()[word] for word in text.split()) == text


def test_prompts_say_who_it_is(prompts: Prompts) -> None:
    rng = np.random.default_rng(0)
    drawn = [prompts.drawn(rng) for _ in range(400)]
    whole = 0
    for persona, frames in drawn:
        texts, own, user = frames[0], frames[1:9], frames[9:]
        assert (user == 9).all()
        spoken = (own == 100 + 100 * list(VOICES).index(persona.voice)).all(0)
        assert (spoken | (own == 7).all(0)).all(), "one voice, and silence"
        written = [token for token in texts.tolist() if token != CONFIG.text_padding_id]
        assert written in ([], persona_words.prompt_tokens(persona.prompt))
        if not written:
            assert (persona.name, persona.manner) == (NOBODY.name, NOBODY.manner)
        if not spoken.any():
            assert persona.voice == NOBODY.voice
        whole += bool(written) and spoken.any()
    assert 0.8 < whole / len(drawn) < 0.92
    assert {persona for persona, _ in drawn} == set(personas())
    lengths = {frames.shape[1] for _, frames in drawn}
    most = LONGEST + 12 + len(persona_words.prompt_tokens(NOBODY.prompt)) - 1
    assert max(lengths) == most
    assert 0 in lengths
    assert SHORTEST + 6 - 1 in lengths


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Moshi:
    return load(write_persona(tmp_path_factory.mktemp("persona") / "model"), codec="mlx")


@pytest.fixture
def voice(tiny: Moshi) -> np.ndarray:
    return np.random.RandomState(0).randint(0, tiny.lm.config.card, (8, 14))


@pytest.mark.parametrize("text", ["", "You are Ada and you are brief."])
def test_a_window_holds_what_a_session_reads_of_its_prompt(tiny: Moshi, voice: np.ndarray, text: str) -> None:
    config, steady = tiny.lm.config, Steady(*steady_codes(tiny))
    tokens = persona_words.prompt_tokens(text) if text else []
    prompt = build(config, tokens, voice.T.astype(np.int32), steady.quiet, steady.tone)
    with tiny.session(0) as session:
        session.prompt = prompt
        columns = session.begin()
        columns.append(session.inputs(prompt.user_codes[-1]))
    windows = delayed(Prompts(config, steady, {}, []).frames(text, voice)[None], config)[0]
    np.testing.assert_array_equal(windows, np.stack(columns, axis=1))


def test_a_voices_file_is_as_good_as_its_codes(
    tiny: Moshi, voice: np.ndarray, tmp_path: Path, noise_frames: np.ndarray
) -> None:
    mx.save_safetensors(str(tmp_path / "voice.safetensors"), heard_voice(tiny, voice))
    file = read_voice(tmp_path / "voice.safetensors")
    assert file.embeddings.shape == (voice.shape[1] - 1, tiny.lm.config.transformer.dim)
    codes = voice.T.astype(np.int32)

    def made(spoken: Voice | np.ndarray) -> list[np.ndarray]:
        prompt = build(tiny.lm.config, [5, 6, 7], spoken, *steady_codes(tiny))
        with tiny.session(0, GREEDY, prompt=prompt) as session:
            replies = [session.generate(session.encode(frame)) for frame in noise_frames[:20]]
        return [one.codes for one in replies if one.codes is not None]

    np.testing.assert_array_equal(made(file), made(codes))
    assert (np.array(made(codes)) != np.array(made(codes[::-1].copy()))).any()


def test_pitch_is_the_shortest_period() -> None:
    time = np.arange(24_000) / 24_000
    for height in (90, 180):
        tones = np.sin(2 * np.pi * height * time) + 0.8 * np.sin(4 * np.pi * height * time + 1)
        tones += 0.1 * np.sin(np.pi * height * time)  # every second period is a little more alike
        assert pitch((0.2 * tones).astype(np.float32)) == pytest.approx(height, rel=0.01)
    assert pitch(np.zeros(24_000, np.float32)) is None
    assert pitch((0.1 * np.random.RandomState(0).standard_normal(24_000)).astype(np.float32)) is None
