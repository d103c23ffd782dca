"""OpenAI's client for JavaScript, as it is, against a server of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.web.api.conftest import noise, wav
from tests.web.running import PATIENCE, Running

PACKAGE = Path(__file__).parents[3] / "scripts" / "javascript" / "node_modules" / "openai" / "index.mjs"
MISSING = (
    "" if shutil.which("node") and PACKAGE.is_file() else "needs Node and `make check`, which installs the client"
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

PROGRAM = """
import { createReadStream } from "node:fs";
const [, , url, library] = process.argv;
const { default: OpenAI } = await import(library);
const api = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const file = () => createReadStream("talk.wav");
const { text } = await api.audio.transcriptions.create({ file: file(), model: "stt" });
let streamed = "";
for await (const event of await api.audio.transcriptions.create({ file: file(), model: "stt", stream: true }))
  if (event.type === "transcript.text.delta") streamed += event.delta;
const asked = { model: "tts", voice: "a", input: "Good day." };
const speech = await api.audio.speech.create({ ...asked, response_format: "pcm" });
const bytes = (await speech.arrayBuffer()).byteLength;
const models = (await api.models.list()).data.map(({ id }) => id);
const refused = await api.audio.speech
  .create({ ...asked, response_format: "aac" })
  .catch(({ status, param, message }) => ({ status, param, message }));
console.log(JSON.stringify({ text, streamed, bytes, models, refused }));
"""


def test_it_transcribes_streams_speaks_and_is_refused_in_words(api_server: Running, tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(wav(noise(1.0)))
    (tmp_path / "program.mjs").write_text(PROGRAM)
    words = ["node", "program.mjs", api_server.url, PACKAGE.as_uri()]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["text"] == found["streamed"]
    assert len(found["text"].split()) > 2
    assert found["bytes"] % 3840 == 0 < found["bytes"]
    assert len(found["models"]) == 4
    assert (found["refused"]["status"], found["refused"]["param"]) == (400, "response_format")
    assert "mp3, opus, flac, wav, pcm" in found["refused"]["message"]
