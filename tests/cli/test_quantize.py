"""`moshi-mlx quantize`: checkpoints to folders that every command takes."""

import base64
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlx.core as mx
import pytest
import typer

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint
from moshi_mlx.cli.main import app
from moshi_mlx.cli.options import WrongUsage
from moshi_mlx.cli.quantize import parse_bytes
from moshi_mlx.weights.quantization import RECIPES, Scheme
from moshi_mlx.weights.safetensors import read_header
from tests.cli.conftest import Done
from tests.config_file import edit
from tests.quantize.conftest import SMALL
from tests.weights_file import rewrite

Cli = Callable[..., Done]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("source") / "source", SMALL, dtype="bfloat16")


@dataclass
class Uploads:
    """A hub that takes uploads: as much of its API as one small commit needs. refuse: with this status."""

    files: dict[str, bytes] = field(default_factory=dict)
    repos: list[dict] = field(default_factory=list)
    refuse: int = 0

    def answer(self, path: str, body: bytes) -> tuple[int, dict]:
        if self.refuse:
            return self.refuse, {"error": "You don't have the rights to do this"}
        if path == "/api/repos/create":
            self.repos.append(json.loads(body))
            return 200, {"url": "https://huggingface.co/me/made"}
        if path == "/api/models/me/made/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            return 200, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
        if path == "/api/models/me/made/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {
                "commitUrl": "https://huggingface.co/me/made/commit/1",
                "commitOid": "1" * 40,
                "success": True,
            }
        return 200, {}

    def handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                status, answer = hub.answer(self.path.partition("?")[0], body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    hub = Uploads()
    server = ThreadingHTTPServer(("127.0.0.1", 0), hub.handler())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_what_is_made_is_what_run_takes(moshi_cli: Cli, tiny_folder: Path, tmp_path: Path, question: Path) -> None:
    done = moshi_cli("quantize", tiny_folder, tmp_path / "mine", "--recipe", "mixed")
    assert (done.code, done.out) == (0, "")
    assert re.search(
        r"mine: 1\.0 MB of weights, 8\.14 bits each \(mixed: 106 layers in q8 .*; 8 layers in q4", done.err
    )
    assert "dense: transformer.layers.*.norm1.weight (2), " in done.err
    options = ("--codec", "mlx", "--lead", 0, "--tail", 0, "--json", "--quiet")
    done = moshi_cli("run", "--model", tmp_path / "mine", question, tmp_path / "answer.wav", *options)
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["event"] == "end"


def test_q4_is_the_default_and_nothing_is_said_if_that_is_wanted(
    moshi_cli: Cli, source: Path, tmp_path: Path
) -> None:
    done = moshi_cli("quantize", source, tmp_path / "made", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert Checkpoint.resolve(tmp_path / "made").scheme == Scheme(4, 32)


def test_notes_are_said_however_quiet_it_should_be(moshi_cli: Cli, source: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(source, tmp_path / "base"))
    rewrite(base / "model.safetensors", lambda arrays: arrays["text_linear.weight"].__setitem__(slice(None), 0))
    shutil.copy(base / "model.safetensors", base / "consolidated.safetensors")
    edit(base, moshi_name=None)
    done = moshi_cli("quantize", base, tmp_path / "made", "--quiet", "--json")
    assert done.code == 0, done.err
    lines = done.err.splitlines()
    assert [line.startswith(f"note: {base}") for line in lines] == [True, True]
    assert "also holds consolidated.safetensors" in lines[0]
    assert "nothing but zeros in text_linear.weight" in lines[1]
    assert [f"note: {note}" for note in json.loads(done.out)["notes"]] == lines


def test_the_result_is_an_object_for_programs(moshi_cli: Cli, source: Path, tmp_path: Path) -> None:
    done = moshi_cli("quantize", source, tmp_path / "made", "--bits", 3, "--group-size", 128, "--json")
    said = json.loads(done.out)
    assert said["folder"] == str(tmp_path / "made")
    assert said["schemes"] == {"3 bits, group 128": len(Checkpoint.resolve(tmp_path / "made").weights.schemes)}
    assert "depformer.slices.0.linear_out" in said["undivided"]
    assert "among them the group size does not divide: depformer.slices.*.emb (2)" in done.err
    assert said["files"]["model.safetensors"] == (tmp_path / "made" / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("options", "scheme"),
    [
        (["--bits", 8], Scheme(8, 64)),
        (["--group-size", 64], Scheme(4, 64)),
        (["--mode", "nvfp4"], Scheme(4, 16, "nvfp4")),
        (["--recipe", "Q6"], Scheme(6, 64)),
        (["-r", "bf16"], None),
    ],
)
def test_how_is_a_recipe_or_numbers(
    moshi_cli: Cli, source: Path, tmp_path: Path, options: list, scheme: Scheme | None
) -> None:
    assert moshi_cli("quantize", source, tmp_path / "made", *options).code == 0
    assert Checkpoint.resolve(tmp_path / "made").scheme == scheme


def test_files_may_be_named_one_by_one(moshi_cli: Cli, source: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "weights.safetensors").symlink_to(source / "model.safetensors")
    settings = json.loads((source / "config.json").read_text())
    (tmp_path / "alone" / "mimi_config.json").symlink_to(source / "mimi_config.json")
    (tmp_path / "elsewhere.json").write_text(json.dumps(settings))
    done = moshi_cli(
        "quantize", tmp_path / "alone" / "weights.safetensors", tmp_path / "made",
        "--config", tmp_path / "elsewhere.json", "--tokenizer", source / "tokenizer.model",
        "--mimi", source / "mimi.safetensors",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (
        Checkpoint.resolve(tmp_path / "made").tokenizer.read_bytes() == (source / "tokenizer.model").read_bytes()
    )


def test_an_adapter_is_merged_on_the_way(moshi_cli: Cli, source: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    factors = {"text_linear.lora_A.weight": mx.ones((2, 128)), "text_linear.lora_B.weight": mx.ones((256, 2))}
    mx.save_safetensors(str(tmp_path / "adapter" / "lora.safetensors"), factors)
    words = ("quantize", source, tmp_path / "made", "-r", "bf16", "--lora", tmp_path / "adapter")
    done = moshi_cli(*words)
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"error: there is no config\.json beside .*; give --lora-scaling .*\n", done.err)
    assert moshi_cli(*words, "--lora-scaling", 0.5).code == 0
    one, two = (Checkpoint.resolve(folder).load_lm() for folder in (source, tmp_path / "made"))
    wanted = (one.text_linear.weight.astype(mx.float32) + 1.0).astype(mx.bfloat16)
    assert mx.array_equal(two.text_linear.weight, wanted)


def test_figures_go_into_the_card(moshi_cli: Cli, source: Path, tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text('{"KL": {"text": 0.01}}')
    assert moshi_cli("quantize", source, tmp_path / "made", "--quality", tmp_path / "figures.json").code == 0
    assert "| KL text | 0.01 |" in (tmp_path / "made" / "README.md").read_text()


def test_weights_may_be_split(moshi_cli: Cli, source: Path, tmp_path: Path) -> None:
    assert moshi_cli("quantize", source, tmp_path / "made", "-r", "bf16", "--shard-gb", 0.001).code == 0
    assert Checkpoint.resolve(tmp_path / "made").lm_weights.name == "model.safetensors"  # 0.9 MB: one is enough
    assert moshi_cli("quantize", source, tmp_path / "less", "--shard-gb", 0).code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "q7"], r"recipe 'q7' is unknown; one of bf16, q4, q8, .* or a \.json file expected"),
        (["--recipe", "q4", "--bits", "4"], r"--recipe q4 says it all: leave --bits, --group-size and --mode out"),
        (["--bits", "7"], r"MLX has no 7 bits in groups of 64"),
        (["--mode", "mxfp4", "--bits", "8"], r"mxfp4 is always 4 bits in groups of 32"),
        (["--recipe", "no.json"], r"cannot read the recipe no\.json: No such file or directory"),
        (["--lora-scaling", "2"], r"--lora-scaling is that of an adapter: give it with --lora"),
        (["--lora", "./nowhere"], r"\./nowhere does not exist"),
        (["--upload", "made"], r"'made' is not the name of a hub repository"),
        (["--upload", "me/made", "--offline"], r"--upload needs the network that --offline forbids"),
        (["--quality", "no.json"], r"cannot read no\.json: No such file or directory"),
        (["--config", "no.json"], r"has no file no\.json"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    moshi_cli: Cli, source: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = moshi_cli("quantize", source, tmp_path / "made", *options)
    needs_source = "nowhere" in message or "has no file" in message
    assert (done.code, done.out) == (1 if needs_source else 2, "")
    assert re.match(f"error: .*{message}", done.err)
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_exists_is_refused_before_the_source_is_looked_for(moshi_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "config.json").touch()
    done = moshi_cli("quantize", "nobody/nothing", tmp_path / "made")
    assert done.code == 1
    assert re.fullmatch(r"error: .*made exists; choose another place, or --force to replace it\n", done.err)


def test_a_quantized_source_needs_a_word(moshi_cli: Cli, source: Path, tmp_path: Path) -> None:
    assert moshi_cli("quantize", source, tmp_path / "q8", "-r", "q8").code == 0
    done = moshi_cli("quantize", tmp_path / "q8", tmp_path / "q4")
    assert done.code == 1
    assert re.fullmatch(
        r"error: .*q8 is already quantized, q8 .*, or --requantize to lose precision twice\n", done.err
    )
    assert moshi_cli("quantize", tmp_path / "q8", tmp_path / "q4", "--requantize").code == 0
    assert moshi_cli("quantize", tmp_path / "q8", tmp_path / "q4", "-r", "bf16", "--force").code == 0
    dtypes = {tensor.dtype for tensor in read_header(tmp_path / "q4" / "model.safetensors").values()}
    assert dtypes == {"BF16"}


def test_the_folder_is_uploaded_file_by_file(
    moshi_cli: Cli, source: Path, tmp_path: Path, uploads: Uploads
) -> None:
    done = moshi_cli("quantize", source, tmp_path / "made", "--upload", "me/made")
    assert done.code == 0, done.err
    assert re.search(r"\nuploaded to http://127\.0\.0\.1:\d+/me/made\n$", done.err)
    assert [repo["name"] for repo in uploads.repos] == ["made"]
    assert b"moshi-mlx chat --model me/made\n" in uploads.files["README.md"]
    assert uploads.files == {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}


def test_a_hub_that_refuses_leaves_the_folder(
    moshi_cli: Cli, source: Path, tmp_path: Path, uploads: Uploads
) -> None:
    uploads.refuse = 403
    done = moshi_cli("quantize", source, tmp_path / "made", "--upload", "me/made", "--quiet")
    assert done.code == 1
    assert re.fullmatch(
        r"error: \S*made is made, but the hub did not take it \(.*\); log in with `hf auth login`: "
        r"`hf upload me/made \S*made`\n",
        done.err,
    )
    assert Checkpoint.resolve(tmp_path / "made").scheme == Scheme(4, 32)


def test_the_help_names_every_recipe() -> None:
    command = typer.main.get_command(app).commands["quantize"]  # type: ignore[attr-defined]
    (recipe,) = (option for option in command.params if option.name == "recipe")
    assert set(re.findall(r"[\w-]+", recipe.help)) >= set(RECIPES)
    assert recipe.show_default in RECIPES


@pytest.mark.parametrize(
    ("text", "count"), [("4.2GB", 4_200_000_000), ("900 mb", 900_000_000), ("4GiB", 2**32), ("1024", 1024)]
)
def test_budgets_are_sizes_as_people_write_them(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "4.2TB", "-3MB", "4,2GB", "0GB"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match=r"a size such as 4\.2GB"):
        parse_bytes(text)
