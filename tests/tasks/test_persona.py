"""PersonaPlex: prompts, as NVIDIA's fork lives through them, and voices in files."""

import io
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY_PERSONA, write_random_checkpoint
from moshi_mlx.checkpoint.voices import Voice, Voices, read_voice
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.wordless import wordless
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.persona import SILENCE, TONE, build, persona, tagged
from moshi_mlx.weights.torch_file import read_torch_file
from tests.golden import ASSETS, Golden, read_golden

VOICE = ASSETS / "persona_voice.pt"


@pytest.fixture(scope="module")
def golden() -> Golden:
    return read_golden("persona")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("persona") / "tiny", TINY_PERSONA)


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Moshi:
    return load(folder, codec="mlx")


def said(golden: Golden, voice: Voice | np.ndarray, text: list[int], user: np.ndarray) -> np.ndarray:
    """Rows [text, codes] as NVIDIA's LMGen gives them: the text of a frame comes with the audio of its frame."""
    prompt = build(golden.lm.config, text, voice, np.array(SILENCE), np.array(TONE))
    session = wordless(golden.lm).batch(1).join(0, GREEDY, prompt=prompt)
    heard = [session.encode(np.zeros(1920, np.float32)), *user]
    made = [session.generate(codes) for codes in heard[: len(user)]]
    texts = [golden.lm.config.text_padding_id, *(one.text_id for one in made[:-1])]
    return np.array(
        [[text, *one.codes.tolist()] for text, one in zip(texts, made, strict=True) if one.codes is not None]
    )


@pytest.mark.parametrize("kind", ["recording", "file"])
def test_a_conversation_after_prompts_is_nvidias_token_for_token(golden: Golden, kind: str) -> None:
    answers = golden.answers
    voice = answers["voice"].astype(np.int32) if kind == "recording" else read_voice(VOICE)
    text, user = answers["text"].tolist(), answers["user"].astype(np.int32)
    rows = said(golden, voice, text, user)
    assert len(rows) == 300
    np.testing.assert_array_equal(rows, answers["rows"])
    noise = np.random.RandomState(1).randint(0, 2048, user.shape)
    others = [said(golden, voice, [*text[:3], 44, *text[4:]], user), said(golden, voice, text, noise)]
    assert all((other[2:] != rows[2:]).any() for other in others)


def test_a_prompt_is_voice_silence_text_silence(tiny: Moshi) -> None:
    spoken = (0.3 * np.sin(np.arange(5 * 1920) / 9)).astype(np.float32)
    text = "Talk about the wind."
    tokens = tiny.tokenizer.encode(f"<system> {text} <system>")
    prompt = persona(tiny, text, spoken)
    assert prompt.texts.tolist() == [3] * 11 + tokens + [3] * 6
    assert len(tokens) > 4
    quiet = prompt.codes[5]
    assert (prompt.codes[5:] == quiet).all()
    assert (prompt.codes[:5] != quiet).any(axis=1).all()
    assert (prompt.user_codes == prompt.user_codes[0]).all()
    assert (prompt.user_codes[0] != quiet).any()
    assert persona(tiny, "", spoken).texts.tolist() == [3] * 11
    assert persona(tiny, f" <system> {text} <system>\n").texts.tolist() == [3] * 6 + tokens + [3] * 6
    assert tagged("<system>") == "<system> <system> <system>"


def test_kyutais_codec_is_given_the_codes_of_training(golden: Golden) -> None:
    prompt = persona(wordless(golden.lm))
    assert prompt.codes.tolist() == [list(SILENCE)] * 6
    assert prompt.user_codes.tolist() == [list(TONE)] * 6


def test_prompts_change_what_is_said(tiny: Moshi, noise_frames: np.ndarray) -> None:
    def words(text: str) -> list[int]:
        session = tiny.session(1, GREEDY, prompt=persona(tiny, text))
        return [session.generate(session.encode(frame)).text_id for frame in noise_frames[:20]]

    assert words("You are a teacher.") == words("You are a teacher.") != words("You are a pirate.")


def test_wrong_prompts_are_refused(tiny: Moshi, tiny_moshi: Moshi, golden: Golden) -> None:
    with pytest.raises(ConfigError, match="takes no prompt"):
        persona(tiny_moshi, "You are a teacher.")
    with pytest.raises(ConfigError, match="longer than the model's window of 64"):
        persona(tiny, "word " * 100)
    with pytest.raises(ConfigError, match="recording of a voice is empty"):
        persona(tiny, "", np.zeros(0, np.float32))
    voice = read_voice(VOICE)
    for wrong in (replace(voice, cache=voice.cache[:9]), replace(voice, embeddings=voice.embeddings[:, :32])):
        with pytest.raises(CheckpointError, match="voice is of another model"):
            persona(wordless(golden.lm), "", wrong)
    with pytest.raises(CheckpointError, match="voice is damaged"):
        persona(wordless(golden.lm), "", replace(voice, cache=voice.cache + 2040))
    persona(wordless(golden.lm), "", voice)


# Voices in files.


def test_a_file_of_pytorch_is_read_as_pytorch_reads_it(golden: Golden) -> None:
    tensors = read_torch_file(VOICE.read_bytes(), "voice")
    assert {name: (one.shape, one.dtype) for name, one in tensors.items()} == {
        "embeddings": ((11, 1, 1, 64), np.float32),
        "cache": ((1, 17, 4), np.int64),
    }
    prompt = build(
        golden.lm.config, [], golden.answers["voice"].astype(np.int32), np.array(SILENCE), np.array(TONE)
    )
    session = wordless(golden.lm).batch(1).join(0)
    session.prompt = prompt
    columns = np.stack(session.begin()[:11], axis=1)[None]
    np.testing.assert_allclose(
        np.array(golden.lm.embed(mx.array(columns)))[0], tensors["embeddings"][:, 0, 0], atol=1e-6
    )


class Evil:
    """What a pickle may do: call anything."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path(EVIL),))


EVIL = "evil"


def torch_like(program: bytes, **storages: bytes) -> bytes:
    """A file as torch.save writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("voice/data.pkl", program)
        for name, data in storages.items():
            archive.writestr(f"voice/data/{name.removeprefix('_')}", data)
    return file.getvalue()


def rewritten(old: bytes, new: bytes) -> bytes:
    """The golden voice with other bytes in its program."""
    with zipfile.ZipFile(VOICE) as archive:
        name = next(one for one in archive.namelist() if one.endswith("data.pkl"))
        program = archive.read(name)
        assert old in program
        folder = name.removesuffix("data.pkl")
        storages = {f"_{one}": archive.read(f"{folder}data/{one}") for one in ("0", "1")}
    return torch_like(program.replace(old, new), **storages)


def test_programs_in_a_voice_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for program in (
        pickle.dumps({"embeddings": Evil()}),
        b"cos\nsystem\n(S'touch evil'\ntR.",
        pickle.dumps(OrderedDict(cache=print)),
    ):
        with pytest.raises(
            CheckpointError, match=r"voice\.pt holds [\w.]+, which is no tensor; such a file could"
        ):
            read_torch_file(torch_like(program), "voice.pt")
    assert not Path(EVIL).exists()
    assert read_torch_file(rewritten(b"torch._utils", b"torch._utils"), "voice.pt").keys() == {
        "embeddings",
        "cache",
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a file of torch.save"),
        (b"RIFF" * 100, "not a file of torch.save"),
        (torch_like(b"")[:40], "not a file of torch.save"),
        (torch_like(b"\x80\x02K\x01."), "holds a int"),
        (torch_like(b""), "cannot be read as a file of tensors"),
        (torch_like(pickle.dumps({"a": 1})), "has no 'cache'"),
        (rewritten(b"K\x0b", b"K\0"), r"embeddings \(0, .* are not those of a voice"),
        (rewritten(b"K\x0b", b"K\x7f"), "cannot be read as a file of tensors"),
    ],
    ids=["empty", "a WAV", "cut", "a number", "no program", "no cache", "no embeddings", "a storage too short"],
)
def test_a_file_that_is_no_voice_is_named_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "voice.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_voice(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_voice_may_be_safetensors(tmp_path: Path) -> None:
    known = read_voice(VOICE)
    path = tmp_path / "voice.safetensors"
    embeddings = mx.array(known.embeddings)[:, None, None].astype(mx.bfloat16)
    mx.save_safetensors(str(path), {"embeddings": embeddings, "cache": mx.array(known.cache)[None]})
    found = read_voice(path)
    np.testing.assert_allclose(found.embeddings, known.embeddings, rtol=1e-2)
    np.testing.assert_array_equal(found.cache, known.cache)


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("voices/LINK.pt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def test_the_voices_of_a_checkpoint_are_read_where_they_lie(tmp_path: Path, folder: Path) -> None:
    data = VOICE.read_bytes()
    (tmp_path / "config.json").write_text("{}")
    archive(
        tmp_path / "voices.tgz",
        {
            "voices/NATF0.pt": data,
            "../../NATM1.pt": data,
            "voices/._NATF0.pt": b"",
            "voices/README": b"",
            "voices/BAD.pt": b"x",
        },
    )
    voices = Voices(str(tmp_path))
    assert voices.names == ["BAD", "NATF0", "NATM1"]
    for name in ("NATF0", "NATM1", "NATF0.pt"):
        np.testing.assert_array_equal(voices.read(name).embeddings, read_voice(VOICE).embeddings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "voices.tgz"]
    assert not (tmp_path.parent.parent / "NATM1.pt").exists()
    with pytest.raises(
        CheckpointError, match=r"has no voice '\.\./NATF0': it has BAD, NATF0, NATM1; or give a file"
    ):
        voices.read("../NATF0")
    with pytest.raises(CheckpointError, match=r"BAD\.pt is not a file of torch.save"):
        voices.read("BAD")
    with pytest.raises(CheckpointError, match=r"it has none, for want of voices\.tgz"):
        Voices(str(folder)).read("NATF0")
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "MINE.pt").write_bytes(data)
    assert Voices(str(tmp_path)).names == ["BAD", "MINE", "NATF0", "NATM1"]
    (tmp_path / "voices.tgz").write_bytes((tmp_path / "voices.tgz").read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"cannot read .*voices\.tgz"):
        _ = Voices(str(tmp_path)).names
    digits = np.random.RandomState(0).randint(0, 10, 100_000, np.uint8).tobytes()
    whole = archive(tmp_path / "voices.tgz", {"voices/NATF0.pt": digits}).read_bytes()
    garbage = np.random.RandomState(0).bytes(len(whole))
    (tmp_path / "voices.tgz").write_bytes(whole[:6000] + garbage)  # in the middle of a voice
    with pytest.raises(CheckpointError, match=r"cannot read .*voices\.tgz"):
        _ = Voices(str(tmp_path)).names
