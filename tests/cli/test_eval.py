"""`moshi-mlx eval` with a small random model: what it keeps, what it prints, what it refuses."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from aiohttp import WSMsgType, web

from moshi_mlx.cli import eval_over
from moshi_mlx.cli.eval_over import Heard, server_name
from moshi_mlx.errors import ClientError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.quality.behaviour import builtin
from moshi_mlx.quality.behaviour.answer import read_answer
from moshi_mlx.quality.behaviour.scene import Scene, write_scene
from moshi_mlx.wire import messages
from tests.cli.conftest import Done
from tests.quality.behaviour.voices import needs_synthesizers

Cli = Callable[..., Done]

SCENES = [
    Scene("pause_handling", "1", pauses=((0.2, 0.3),)),
    Scene("smooth_turn_taking", "1", turn_end=0.3, answers=(("yes",),)),
    Scene("smooth_turn_taking", "2", turn_end=0.3, noise_db=10),
    Scene("silence", "1", echo_db=-20),
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    noise = np.random.RandomState(0).standard_normal(round(0.8 * SAMPLE_RATE)) * 0.1
    for scene in SCENES:
        write_scene(scene, root / scene.task / scene.id, noise.astype(np.float32))
    return root


@pytest.fixture(autouse=True)
def detector() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra: eval)")


@needs_synthesizers
def test_builtin_scenes_are_made_once(
    moshi_cli: Cli, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(builtin, "COUNTS", {"pause_handling": 2})
    words = ("eval", tiny_folder, "--codec", "mlx", "--quiet", "--json", "--into")
    first, second = (moshi_cli(*words, tmp_path / name) for name in ("one", "two"))
    assert (first.code, first.err) == (second.code, second.err) == (0, "")
    made = list((tmp_path / "cache").rglob("input.wav"))
    assert len(made) == 2
    report, again = json.loads(first.out), json.loads(second.out)
    assert report["models"][0]["samples"] == 2
    assert report["models"] == again["models"]


def test_models_are_compared_and_go_on_where_they_were(
    moshi_cli: Cli, tiny_folder: Path, scenes: Path, tmp_path: Path
) -> None:
    into, other = tmp_path / "runs", f"{tiny_folder}+q4"
    words = (
        "eval",
        tiny_folder,
        other,
        "--scenes",
        scenes,
        "--into",
        into,
        "--batch",
        4,
        "--codec",
        "mlx",
        "--quiet",
    )
    done = moshi_cli(*words, "--json")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert report["reference"] == str(tiny_folder)
    first, second = report["models"]
    assert [one["samples"] for one in (first, second)] == [4, 4]
    figures = {(one["task"], one["condition"], one["measure"], one["statistic"]) for one in first["figures"]}
    assert ("smooth_turn_taking", "noise 10 dB", "takeover", "mean") in figures
    assert ("smooth_turn_taking", "clean", "accuracy", "mean") in figures
    assert ("silence", "echo -20 dB", "first_word", "mean") in figures
    assert second["deltas"]
    assert other in second["verdict"]
    assert report["voice_detector"].startswith("silero-vad")

    answers = sorted(into.rglob("output.wav"))
    assert len(answers) == 8
    pairs = zip(answers[:4], answers[4:], strict=True)
    assert all(one.read_bytes() != two.read_bytes() for one, two in pairs), "another precision, other draws"
    assert (answers[0].parent / "input.wav").is_file()

    kept = {path: path.stat().st_mtime_ns for path in answers}
    (answers[0].parent / "output.json").unlink()
    again = moshi_cli(*words)
    assert again.code == 0
    assert [path for path in answers if path.stat().st_mtime_ns != kept[path]] == [answers[0]]
    assert again.out.splitlines()[0].startswith(other)
    assert "smooth turn-taking" in again.out
    assert "takeover rate, noise 10 dB" in again.out

    refused = moshi_cli(*words, "--seed", 1)
    assert refused.code == 1
    assert "made with seed 0, not 1" in refused.err

    # What a folder holds, as answers of a model that is not here.
    alone = moshi_cli("eval", answers[0].parents[2], "--markdown")
    assert alone.code == 0
    assert "| takeover rate |" in alone.out
    assert "### silence" in alone.out


def test_words_may_come_from_a_transcript(
    moshi_cli: Cli, tiny_folder: Path, stt_folder: Path, scenes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: plots)")
    into, picture = tmp_path / "runs", tmp_path / "behaviour.png"
    words = ("eval", tiny_folder, "--scenes", scenes / "pause_handling", "--into", into, "--codec", "mlx")
    done = moshi_cli(*words, "--words", "stt", "--stt-model", stt_folder, "--plot", picture)
    assert (done.code, done.err) == (0, f"plot in {picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")
    settings = json.loads(next(into.rglob("settings.json")).read_text())
    assert settings["words"] == str(stt_folder)
    assert "pause handling" in done.out
    assert moshi_cli(*words).code == 1, "the monologue's words are other words"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nano"], 1, "the builtin scenes are spoken by flite and espeak-ng"),
        ([], 2, "name a MODEL"),
        (["nano", "--scenes", "missing"], 1, "missing is not a folder of scenes"),
        (["nano+q7", "--scenes", "."], 2, "'q7' is no recipe"),
        (["nano+noise=3", "--scenes", "."], 2, "'noise=3' is neither"),
        (["nano", "--plot", "a.txt"], 1, "a name that ends in .png"),
        (["nano", "--json", "--markdown"], 2, "both want standard output"),
        (["--over", "ftp://a", "--scenes", "."], 1, "holds no scenes"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    moshi_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # no synthesizers
    done = moshi_cli("eval", *words)
    assert (done.code, done.out) == (code, "")
    assert says in done.err


class Server:
    """Speaks Kyutai's protocol: to each frame it says a word and a tone, but to the first one nothing."""

    def __init__(self) -> None:
        self.queries: list[dict[str, str]] = []
        self.heard = np.zeros(0, np.float32)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread.start()
        self._ready.wait()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_get("/api/chat", self._chat)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.WebSocketResponse:
        self.queries.append(dict(request.query))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(messages.HANDSHAKE)
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                continue
            first = not len(self.heard)
            self.heard = np.concatenate([self.heard, np.frombuffer(message.data[1:], "<f4")])
            if not first:
                await socket.send_bytes(messages.text(" la"))
                await socket.send_bytes(messages.audio(np.full(1920, 0.25, "<f4").tobytes()))
        return socket

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.mark.serial  # plays in real time
def test_a_server_is_evaluated_in_real_time(
    moshi_cli: Cli, scenes: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eval_over, "JITTER", 60.0)  # this machine may be busy
    some, into = tmp_path / "scenes", tmp_path / "runs"
    for name in ("smooth_turn_taking/1", "silence/1"):
        shutil.copytree(scenes / name, some / name)
    words = ("eval", "--over", f"{server.url}/?audio=pcm", "--scenes", some, "--into", into)
    done = moshi_cli(*words)
    assert done.code == 0
    assert "1 scenes with an echo are left out" in done.err
    folder = next(into.iterdir())
    answer = read_answer(folder / "smooth_turn_taking" / "1")
    assert answer.seconds == pytest.approx(0.8)
    quiet = round(0.08 * 16_000)
    assert np.abs(answer.pcm[: quiet - 100]).max() < 0.05, "one frame is skipped, as by the benchmark's client"
    assert np.abs(answer.pcm[quiet + 100 : -100] - 0.25).max() < 0.01
    assert [word.start for word in answer.words] == pytest.approx([0.08 * number for number in range(2, 10)])
    assert [query["audio"] for query in server.queries] == ["pcm"]
    assert moshi_cli(*words).code == 0
    assert len(server.queries) == 1, "nothing is played twice"
    (folder / "smooth_turn_taking" / "1" / "late.json").write_text('{"seconds": 1.5}')
    assert "it was behind, and its answers have 1.5 s of silence" in moshi_cli(*words).err


def test_a_server_that_falls_behind_is_heard_late() -> None:
    heard, tone = Heard(), np.ones(1920, np.float32)
    for now in (5.0, 5.08, 5.3, 5.31, 5.32, 5.41):  # a frame comes late, the next ones at once: no gap is heard
        heard.audio(tone, now)
    assert (heard.silence, heard.samples) == (0, 7 * 1920)
    heard.audio(tone, 6.48)  # a second later than its turn
    assert heard.silence == pytest.approx(1.0)
    heard.text(" late")
    assert heard.transcript.pieces == [(1.72, " late")]
    voice = heard.voice(3 * SAMPLE_RATE)
    assert not voice[:1920].any()
    assert voice[1920 : 7 * 1920].all()
    assert not voice[7 * 1920 : 7 * 1920 + SAMPLE_RATE].any()
    assert len(voice) == 3 * SAMPLE_RATE
    assert voice.sum() == 7 * 1920


def test_a_token_is_not_in_a_server_s_name() -> None:
    assert server_name("wss://host:1/api/chat?token=secret") == "wss://host:1/api/chat"
    with pytest.raises(ClientError, match="is no address"):
        server_name("ws://[")
