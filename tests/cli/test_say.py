"""`moshi-mlx say` and `python -m moshi_mlx.run_tts`."""

import json
import os
import re
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import moshi_mlx
from moshi_mlx import run_tts as front_door
from moshi_mlx.audio.speakers import Speakers
from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.checkpoint.speakers import DEFAULT_VOICE, find_voice, read_vectors
from moshi_mlx.checkpoint.tokenizer import TextTokenizer
from moshi_mlx.cli import given_text, speech_requests
from moshi_mlx.cli.given_text import GivenText
from moshi_mlx.cli.speech_requests import read_requests
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.run_tts import run_tts
from moshi_mlx.tasks.utterance import Pace, Utterance
from tests.audio.talking import SOME, clear_share
from tests.cli.conftest import Done
from tests.cli.test_chat import Chat
from tests.sound_card import SoundCard

Cli = Callable[..., Done]
TEXT = "Good morning, how did you sleep?"


def test_a_text_becomes_a_file_and_times_of_words(moshi_cli: Cli, tts_folder: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "out.wav", tmp_path / "words.json"
    given = ["-m", tts_folder, "--codec", "mlx", "--seed", 3, "--voice", tts_folder / "a.safetensors"]
    done = moshi_cli("say", TEXT, out, *given, "--transcript", words)
    assert done.code == 0, done.err
    assert TEXT in done.err
    audio, rate = soundfile.read(out)
    assert rate == 24_000
    assert len(audio) % 1920 == 0
    assert f"speech in {out}: {len(audio) / 24_000:.2f} s" in done.err
    times = [word["start"] for word in json.loads(words.read_text())["words"]]
    assert times == sorted(times)
    assert times[0] == pytest.approx(0.16), "two frames of padding come first"

    written = tmp_path / "text.txt"
    written.write_text(TEXT)
    again = moshi_cli("say", written, tmp_path / "again.wav", *given, "--json")
    events = [json.loads(line) for line in again.out.splitlines()]
    assert [event["text"].strip() for event in events[:-1]] == TEXT.split()
    assert events[-1]["event"] == "end"
    assert events[-1]["text"] == TEXT
    assert (soundfile.read(tmp_path / "again.wav")[0] == audio).all()
    for other in (["--voice", tts_folder / "b.safetensors"], ["--cfg", 3.5], ["--seed", 4]):
        kept = [*given[:-2], "--voice", tts_folder / "a.safetensors"] if other[0] != "--voice" else given[:-2]
        changed = moshi_cli("say", TEXT, tmp_path / "other.wav", *kept, *other)
        assert changed.code == 0, changed.err
        different, _ = soundfile.read(tmp_path / "other.wav")
        assert len(different) != len(audio) or (different != audio).any(), other


def test_a_word_that_the_model_does_not_know_is_left_out_and_named_once(
    moshi_cli: Cli, tts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextTokenizer, "lacks", lambda tokenizer, word: word == "Zorro")
    given = ["-m", tts_folder, "--codec", "mlx", "--seed", 3, "--voice", tts_folder / "a.safetensors"]
    assert moshi_cli("say", "Good morning, you.", tmp_path / "known.wav", *given).code == 0
    done = moshi_cli("say", "Good Zorro morning, Zorro you.", tmp_path / "out.wav", *given)
    assert done.code == 0, done.err
    assert done.err.count("note: 'Zorro' is left out: this model does not know the word\n") == 1
    assert (tmp_path / "out.wav").read_bytes() == (tmp_path / "known.wav").read_bytes()

    lines = tmp_path / "texts.jsonl"
    lines.write_text(
        json.dumps({"text": "Zorro, you Zorro", "voice": str(tts_folder / "a.safetensors"), "id": "one"})
    )
    many = moshi_cli("say", "--jsonl", lines, tmp_path / "many", *given[:-2])
    assert many.code == 0, many.err
    assert "'Zorro' is left out" in many.err


def test_text_from_stdin_is_said_as_it_comes(
    moshi_cli: Cli, tts_folder: Path, tmp_path: Path, typed: Callable[[str], None]
) -> None:
    given = ["-m", tts_folder, "--codec", "mlx", "--seed", 3, "--voice", tts_folder / "a.safetensors"]
    text = 'Good morning, <break time="0.4s"/>how did you sleep?\nVery well.'
    one = tmp_path / "one.wav"
    assert moshi_cli("say", text, one, *given).code == 0
    typed(text)
    done = moshi_cli("say", "-", tmp_path / "two.wav", *given)
    assert done.code == 0, done.err
    assert one.read_bytes() == (tmp_path / "two.wav").read_bytes()


def test_two_voices_take_turns_with_the_lines(moshi_cli: Cli, tts_folder: Path, tmp_path: Path) -> None:
    given = ["-m", tts_folder, "--codec", "mlx", "--seed", 3, "--voice", tts_folder / "a.safetensors"]
    said = {}
    for name, text, voices in (
        ("one", "Good morning.\nHello.", []),
        ("two", "Good morning.\nHello.", ["--voice", tts_folder / "b.safetensors"]),
        ("turns", "Good morning.\nHello.\n", ["--voice", tts_folder / "b.safetensors"]),
        ("flat", "Good morning. Hello.", ["--voice", tts_folder / "b.safetensors"]),
    ):
        assert moshi_cli("say", text, tmp_path / "out.wav", *given, *voices).code == 0
        said[name] = soundfile.read(tmp_path / "out.wav")[0].tobytes()
    assert said["one"] != said["two"] == said["turns"]
    assert said["two"] != said["flat"], "the second voice says the second line"


def test_a_model_of_recordings_goes_on_from_one(
    moshi_cli: Cli, prefix_tts_folder: Path, question: Path, tmp_path: Path
) -> None:
    given = ["-m", prefix_tts_folder, "--codec", "mlx", "--seed", 3]
    short = tmp_path / "short.wav"
    soundfile.write(short, soundfile.read(question)[0][:24_000], soundfile.info(question).samplerate)
    said = {}
    for name, more in {"none": [], "voice": ["--voice", short], "guided": ["--voice", short, "--cfg", 1]}.items():
        done = moshi_cli("say", TEXT, tmp_path / f"{name}.wav", *given, *more)
        assert done.code == 0, done.err
        assert ("consent of who speaks" in done.err) == (name != "none")
        said[name] = (tmp_path / f"{name}.wav").read_bytes()
    assert len(set(said.values())) == 3


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["say", " ", "out.wav"], 1, "the text is empty: there is nothing to say"),
        (["say", "a", "out.wav", "--voice", "/nothing.safetensors"], 1, "/nothing.safetensors does not exist"),
        (["say", "a", "out.wav", "--offline"], 1, "of kyutai/tts-voices is not in the cache"),
        (["say", "a", "-", "--json"], 2, "both want standard output"),
        (["run", "IN", "out.wav"], 1, "is a text-to-speech model, which does not listen; use `moshi-mlx say TEXT"),
        (["transcribe", "IN"], 1, "is a text-to-speech model, which does not listen"),
    ],
)
def test_what_cannot_be_said_is_told_in_a_line(
    moshi_cli: Cli,
    tts_folder: Path,
    question: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = moshi_cli(*[str(question) if word == "IN" else word for word in words], "-m", tts_folder)
    assert done.code == code
    assert error in done.err
    assert not (tmp_path / "out.wav").exists()


def test_say_refuses_a_model_that_talks(moshi_cli: Cli, tiny_folder: Path, tmp_path: Path) -> None:
    done = moshi_cli("say", "a", tmp_path / "out.wav", "-m", tiny_folder)
    assert done.code == 1
    assert f"{tiny_folder} does not say texts: use one such as tts-1.6b" in done.err


def test_voices_are_found_by_name_and_file(
    tts_folder: Path, question: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "moshi_mlx.checkpoint.speakers.fetch",
        lambda repo, name, offline: asked.append((repo, name)) or tts_folder / "a.safetensors",
    )
    settings = {"model_id": {"sig": "1e68beda", "epoch": 240}}
    find_voice("expresso/x.wav", settings, by_vectors=True)
    find_voice("mine/y.wav", settings, by_vectors=False, repo="me/voices")
    assert asked == [
        ("kyutai/tts-voices", "expresso/x.wav.1e68beda@240.safetensors"),
        ("me/voices", "mine/y.wav"),
    ]
    assert find_voice(str(question), {}, by_vectors=False) == question
    with pytest.raises(ConfigError, match="is no voice of this model, which takes vectors"):
        find_voice(str(question), {}, by_vectors=True)
    with pytest.raises(ConfigError, match="has no 'model_id'"):
        find_voice("x", {}, by_vectors=True)
    assert read_vectors(tts_folder / "a.safetensors").shape == (5, 32)
    with pytest.raises(CheckpointError, match="has no 'speaker_wavs'"):
        read_vectors(tts_folder / "model.safetensors")


def test_old_flags_say_the_same(
    moshi_cli: Cli, tts_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = str(tts_folder / "a.safetensors")
    lines = [
        json.dumps({"turns": [TEXT], "voices": [voice], "id": "one"}),
        "",
        json.dumps({"turns": ["Good morning.", "Hello."], "voices": [voice, voice], "id": "two"}),
    ]
    jsonl = tmp_path / "texts.jsonl"
    jsonl.write_text("\n".join(lines))
    run_tts(jsonl, out_folder=tmp_path / "out", hf_repo=str(tts_folder))
    assert capsys.readouterr().out.count(" s\n") == 2
    facts = json.loads((tmp_path / "out" / "one.json").read_text())
    assert [word for word, _ in facts["words"]] == TEXT.split()
    given = ["-m", tts_folder, "--seed", front_door.SEED, "--text-temperature", 0.6]
    done = moshi_cli("say", TEXT, tmp_path / "one.wav", *given, "--voice", voice)
    assert done.code == 0, done.err
    together, alone = (soundfile.read(tmp_path / name)[0] for name in ("out/one.wav", "one.wav"))
    assert together.shape == alone.shape
    assert np.abs(together - alone).max() < 1e-3, "a batch rounds otherwise"
    with pytest.raises(ConfigError, match=r"moshi-mlx quantize .* --recipe q8"):
        run_tts(jsonl, quantize=8)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 1: text \(or turns\) and id expected"),
        ("[]", r"line 1: text \(or turns\) and id expected"),
        ("", "has no lines"),
        ('{"turns": [], "voices": []}', r"KeyError\('id'\)"),
        ('{"text": " ", "id": "a"}', "line 1: the text is empty"),
        ('{"text": "a", "id": "a"}\n\n{"text": "b", "id": "a"}', "line 3: id 'a' is that of line 1 already"),
        ('{"turns": "a", "voices": [], "id": "a"}', "must be lists of texts"),
        ('{"turns": ["a"], "voices": [], "id": "../a"}', "id the name of a file"),
    ],
)
def test_a_wrong_line_of_requests_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(line)
    with pytest.raises(ConfigError, match=message):
        read_requests(path)


def test_the_pace_is_that_of_the_options(
    moshi_cli: Cli, tts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Pace, int]] = []

    def say_requests(*arguments: Any) -> Iterator[Any]:
        given.append((arguments[4], arguments[6]))
        return iter(())

    monkeypatch.setattr(speech_requests, "say_requests", say_requests)
    file = written(tmp_path, tts_folder)
    run_tts(file, hf_repo=str(tts_folder), padding_bonus=1.5, max_padding=9, cfg_coef=3.0, batch_size=5)
    words = ["say", "--jsonl", file, tmp_path / "out", "-m", tts_folder]
    assert moshi_cli(*words, "--padding-bonus", -1, "--cfg", 1.5).code == 0
    assert given == [(Pace(most=9, guidance=3.0, bonus=1.5), 5), (Pace(guidance=1.5, bonus=-1.0), 8)]


def written(folder: Path, tts_folder: Path) -> Path:
    """A file of three requests."""
    a, b = (str(tts_folder / f"{name}.safetensors") for name in "ab")
    lines = [
        {"text": TEXT, "voice": a, "id": "one"},
        {"turns": ["Good morning.", "Hello."], "voices": [a, b], "id": "two"},
        {"text": "Hello.", "voice": b, "id": "three"},
    ]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "texts.jsonl"


def test_many_texts_are_said_at_once_as_each_alone(moshi_cli: Cli, tts_folder: Path, tmp_path: Path) -> None:
    given = ["-m", tts_folder, "--codec", "mlx", "--seed", 3]
    jsonl, out = written(tmp_path, tts_folder), tmp_path / "out"
    done = moshi_cli("say", "--jsonl", jsonl, out, *given, "--batch-size", 2, "--transcript", "srt", "--json")
    assert done.code == 0, done.err
    turns = "Good morning.\nHello."
    for name, text, voices in (("one", TEXT, "a"), ("two", turns, "ab"), ("three", "Hello.", "b")):
        chosen = [word for voice in voices for word in ("--voice", tts_folder / f"{voice}.safetensors")]
        wav, srt = tmp_path / "alone.wav", tmp_path / "alone.srt"
        alone = moshi_cli("say", text, wav, *given, *chosen, "--transcript", srt)
        assert alone.code == 0, alone.err
        both = [soundfile.read(path, dtype="int16")[0].astype(int) for path in (out / f"{name}.wav", wav)]
        assert np.abs(both[0] - both[1]).max() <= 1, "but for rounding"
        assert (out / f"{name}.srt").read_text() == srt.read_text()
    ends = [event for event in map(json.loads, done.out.splitlines()) if event["event"] == "end"]
    assert {event["id"]: event["text"] for event in ends} == {
        "one": TEXT,
        "two": "Good morning. Hello.",
        "three": "Hello.",
    }
    assert sorted(path.stem for path in out.iterdir()) == sorted(2 * ["one", "two", "three"])


def test_ctrl_c_keeps_the_texts_that_are_whole(
    moshi_cli: Cli, tts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, finished, came = AudioWriter.finish, [], threading.Event()
    real = speech_requests.interruptible

    def pressed(file: AudioWriter) -> None:
        finish(file)
        finished.append(Path(file.name).name)
        if finished[1:]:
            return
        os.kill(os.getpid(), signal.SIGINT)
        came.wait(60)

    monkeypatch.setattr(speech_requests, "interruptible", lambda stop: real(came.set))
    monkeypatch.setattr(AudioWriter, "finish", pressed)
    given = ["-m", tts_folder, "--codec", "mlx", "--seed", 3]
    done = moshi_cli("say", "--jsonl", written(tmp_path, tts_folder), tmp_path / "out", *given)
    assert done.code == 130
    assert done.err.splitlines()[-1] == "interrupted: 1 of 3 texts are said, 2 are not"
    assert os.listdir(tmp_path / "out") == finished


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["say"], "TEXT is missing"),
        (["say", "--jsonl", "FILE"], "name a folder for the speech"),
        (["say", "--jsonl", "FILE", "out", "out.wav"], "name a folder for the speech"),
        (["say", "--jsonl", "FILE", "out", "--transcript", "a.srt"], "for many texts give srt alone"),
        (["say", "a", "b.wav", "--padding-bonus", "11"], "less than or equal to 10"),
    ],
)
def test_arguments_that_do_not_go_together_are_told(
    moshi_cli: Cli, tts_folder: Path, tmp_path: Path, words: list[str], error: str
) -> None:
    file = written(tmp_path, tts_folder)
    done = moshi_cli(*(file if word == "FILE" else word for word in words), "-m", tts_folder)
    assert done.code == 2
    assert error in " ".join(done.err.replace("│", " ").split())


def test_a_break_stays_whole_when_it_comes_in_pieces(
    typed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed('wait <break time="1s"/> für 3 <b it\n')
    monkeypatch.setattr(given_text, "CHUNK", 1)  # byte: also of half a letter
    with closing(GivenText("-")) as given:
        assert list(given_text._whole(given.lines())) == [
            "wait ",
            '<break time="1s"/> ',
            "für ",
            "3 ",
            "<b ",
            "it\n",
        ]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Let standard input be a text."""
    with ExitStack() as stack:

        def put(text: str) -> None:
            (tmp_path / "typed").write_text(text, encoding="utf-8")
            monkeypatch.setattr("sys.stdin", stack.enter_context((tmp_path / "typed").open()))

        yield put


def test_ctrl_c_keeps_what_was_said(
    moshi_cli: Cli, tts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["-m", tts_folder, "--codec", "mlx", "--seed", 3, "--voice", tts_folder / "a.safetensors"]
    whole, part, words = (tmp_path / name for name in ("whole.wav", "part.wav", "part.srt"))
    assert moshi_cli("say", TEXT, whole, *given).code == 0
    steps: list[int] = []
    spoken = Utterance.spoken

    def pressed(utterance: Utterance, audio: np.ndarray | None) -> Any:
        steps.append(1)
        if len(steps) == 15:
            os.kill(os.getpid(), signal.SIGINT)
            stopped.wait(60)  # the thread that hears it has told the speech
        return spoken(utterance, audio)

    stopped = threading.Event()
    stop = GivenText.stop
    monkeypatch.setattr(GivenText, "stop", lambda given: (stop(given), stopped.set()))
    monkeypatch.setattr(Utterance, "spoken", pressed)
    done = moshi_cli("say", TEXT, part, *given, "--transcript", words)
    assert (done.code, len(steps)) == (130, 15), done.err
    audio, heard = soundfile.read(whole)[0], soundfile.read(part)[0]
    assert 1920 <= len(heard) <= 14 * 1920
    assert (heard == audio[: len(heard)]).all()
    assert words.read_text().startswith("1\n00:00:00,160 --> ")


def test_ctrl_c_ends_waiting_for_text(
    moshi_cli: Cli, tts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"Good morning, how did you sl")
    waits: list[int] = []
    wait = select.select

    def pressed(*arguments: Any) -> Any:
        waits.append(1)
        if len(waits) == 2:  # nothing more will come
            os.kill(os.getpid(), signal.SIGINT)
        return wait(*arguments)

    monkeypatch.setattr(select, "select", pressed)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        given = ["-m", tts_folder, "--codec", "mlx", "--seed", 3, "--voice", tts_folder / "a.safetensors"]
        done = moshi_cli("say", "-", tmp_path / "out.wav", *given)
    os.close(writer)
    assert done.code == 130, done.err
    assert "how" in done.err, "what was there had begun"
    assert soundfile.info(tmp_path / "out.wav").frames > 0


def test_speech_is_played_without_a_file(
    moshi_cli: Cli, sound_card: SoundCard, tts_folder: Path, tmp_path: Path
) -> None:
    given = ["-m", tts_folder, "--codec", "mlx", "--seed", 3, "--voice", tts_folder / "a.safetensors"]
    assert moshi_cli("say", "Good morning!", tmp_path / "out.wav", *given).code == 0
    expected = soundfile.read(tmp_path / "out.wav")[0]
    with sound_card.listen() as heard:
        done = moshi_cli("say", "Good morning!", *given, "--speaker", "virtspk")
    assert done.code == 0, done.err
    assert "speaker: virtspk" in done.err
    assert clear_share(below_2_khz(expected), below_2_khz(heard[0])) > SOME


def test_ctrl_c_ends_what_is_played(sound_card: SoundCard, tts_folder: Path) -> None:
    """In a program of its own, which has seconds of speech still to be heard."""
    given = ["-m", tts_folder, "--codec", "mlx", "--voice", tts_folder / "a.safetensors"]
    program = Chat(TEXT + " Good morning." * 40, *given, "--speaker", "virtspk", "--json", command="say")
    try:
        program.wait_for(lambda events: len(events) > 8)
        assert program.end() == 130, program.errors
    finally:
        program.end()
    assert program.events[-1]["interrupted"]
    assert len(program.events) < 80
    assert "Traceback" not in program.errors


def below_2_khz(pcm: np.ndarray) -> np.ndarray:
    """Audio that the card may shift by half a sample."""
    spectrum = np.fft.rfft(pcm)
    spectrum[np.fft.rfftfreq(len(pcm), 1 / 24_000) > 2_000] = 0
    return np.fft.irfft(spectrum, len(pcm))


def test_no_speaker_is_told_before_anything_is_loaded(
    moshi_cli: Cli, tts_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moshi_mlx.audio.devices.list_devices", list)
    done = moshi_cli("say", TEXT, "-m", tts_folder)
    assert done.code == 1
    assert "there is no speaker on this machine" in done.err
    assert "loading" not in done.err


def test_the_example_on_the_python_page_runs(
    tts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = (one for one in examples("docs/python.md") if "moshi_mlx.say(" in one)
    voice = "expresso/ex01-ex02_default_001_channel2_198s.wav"
    for name, path in {"tts-1.6b": tts_folder, voice: tts_folder / "a.safetensors"}.items():
        example = example.replace(f'"{name}"', repr(str(path)))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"moshi_mlx": moshi_mlx}
    exec(compile(example, "docs/python.md", "exec"), names)
    audio, _ = soundfile.read(tmp_path / "morning.wav")
    assert len(audio) > 10 * 1920
    assert names["words"][0] == ("Good", pytest.approx(0.16))
    assert [word for word, _ in names["words"]] == ["Good", "morning,", "how", "did", "you", "sleep?"]


def examples(page: str) -> list[str]:
    """The Python examples of a document."""
    return re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / page).read_text(), re.DOTALL)


def test_speakers_are_read_by_name(
    tts_folder: Path, prefix_tts_folder: Path, question: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    snapshot = cache / "models--kyutai--tts-voices" / "snapshots" / ("0" * 40)
    for name in ("alba/casual.wav", "alba/casual.wav.tiny@1.safetensors", "b.wav.other@2.safetensors"):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes((tts_folder / "a.safetensors").read_bytes())
    assert Speakers(str(tts_folder)).names == sorted(["alba/casual.wav", DEFAULT_VOICE])
    assert Speakers(str(prefix_tts_folder)).names == ["alba/casual.wav"]
    by_vectors, by_recordings = Speakers(str(tts_folder)), Speakers(str(prefix_tts_folder))
    assert by_vectors.read(str(tts_folder / "b.safetensors")).shape == (5, 32)
    assert by_recordings.read(str(question)).ndim == 1
    with pytest.raises(ConfigError, match="chooses a voice by itself"):
        by_recordings.read()
