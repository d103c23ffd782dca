"""`moshi-mlx demo`: Nano, the model in the package, has a recorded conversation."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.checkpoint.nano import NAME, PERSONA_NAME, RECORDING, STT_NAME, captions
from moshi_mlx.cli import options
from moshi_mlx.cli.interruption import undone
from moshi_mlx.errors import AudioFileError, system_errors

if TYPE_CHECKING:
    import numpy as np

LEAD, TAIL = 0.5, 4.0  # seconds of silence around the recording
AFTER = 0.2  # seconds after the first question that belong to it
ROLE, VOICE = "You are Oscar and you are formal.", "male"  # of nano-persona


def demo(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where the sound files and timeline.svg go.", show_default="demo"),
    ] = Path("demo"),
    model: Annotated[str, typer.Option("--model", "-m", help=options.MODEL_HELP)] = NAME,
    quiet: options.QuietOption = False,
) -> None:
    """Have a recorded conversation: two questions, and a third one that interrupts.

    Needs no network: Nano, a tiny trained Moshi, comes with the package. Both sides' words are printed with their
    times. FOLDER gets the answer, both voices in one stereo file, the first question alone, and a plot of the
    conversation (waveforms, words). nano-stt, as tiny, writes down what was said, and nano-persona answers the
    first question in another role. Last come commands to go on with.
    """
    with system_errors(f"cannot make {folder}", AudioFileError):
        folder.mkdir(parents=True, exist_ok=True)

    import numpy as np

    from moshi_mlx.audio.file_stream import FileSource, Tee, WavSink
    from moshi_mlx.audio.files import read_audio
    from moshi_mlx.audio.writer import AudioWriter
    from moshi_mlx.conversation.timeline import Track, save
    from moshi_mlx.conversation.transcript import Transcript, Utterance, utterances
    from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
    from moshi_mlx.runtime.engine import converse
    from moshi_mlx.runtime.moshi import load
    from moshi_mlx.tasks.transcribe import load_transcriber

    recording = read_audio(RECORDING).pcm
    said = [Utterance(LEAD + one["begin"], LEAD + one["end"], "you", one["text"]) for one in captions()]
    first = recording[: round((said[0].end - LEAD + AFTER) * SAMPLE_RATE)]
    source, transcript = FileSource(recording, LEAD, TAIL), Transcript()
    answer, both, timeline = folder / "answer.wav", folder / "conversation.wav", folder / "timeline.svg"
    question = folder / "question.wav"
    with undone(f"the conversation was not finished, and {folder} has nothing of it"):
        moshi = load(model, offline=model == NAME)
        moshi.warm_up()
        with moshi.session(seed=0) as session, WavSink(answer) as wav, WavSink(both, source.heard()) as stereo:
            stats = converse(session, source, Tee(wav, stereo, transcript))
    with AudioWriter(question) as file:
        file.write(first)
    for one in sorted([*said, *utterances(transcript.pieces, "moshi")], key=lambda one: one.begin):
        print(f"{one.begin:6.2f} s  {one.speaker:<5}  {one.text}", flush=True)
    heard = np.pad(recording, (source.lead * FRAME_SAMPLES, 0))
    you = Track("you", heard, [(one.begin, one.text) for one in said])
    save(timeline, [you, Track("moshi", read_audio(answer).pcm, transcript.pieces)])
    if quiet:
        return
    written = load_transcriber(STT_NAME, codec="mlx", offline=True).transcribe(recording).text
    persona = in_a_role(first)
    delays = [transcript.delay_after(one.end) for one in said]
    shown = ", ".join(f"{delay:.2f} s" for delay in delays if delay is not None)
    typed = shlex.quote(model)
    lines = [
        stats.summary(),
        *([f"reply delays {shown}"] if shown else []),
        f"what you said, as {STT_NAME} wrote it down: {written}",
        f"what {PERSONA_NAME} answers first, told {ROLE!r} in the {VOICE} voice: {persona}",
        f"answer in {answer}, both voices in {both} (you on the left), timeline in {timeline}",
        f"next, let it answer the first question alone ({question}), or talk to it yourself, in the browser:",
        f"  {called()} run {shlex.quote(str(question))} --model {typed}",
        f"  {called()} serve --model {typed}",
    ]
    print("\n".join(lines), file=sys.stderr)


def in_a_role(question: "np.ndarray") -> str:
    """What nano-persona answers to a question, (samples,) float32, as ROLE and in VOICE."""
    from moshi_mlx.audio.file_stream import FileSource
    from moshi_mlx.checkpoint.voices import Voices
    from moshi_mlx.conversation.transcript import Transcript
    from moshi_mlx.runtime.engine import converse
    from moshi_mlx.runtime.moshi import load
    from moshi_mlx.tasks.persona import persona

    moshi, transcript = load(PERSONA_NAME, codec="mlx", offline=True), Transcript()
    prompt = persona(moshi, ROLE, Voices(PERSONA_NAME, offline=True).read(VOICE))
    with moshi.session(seed=0, prompt=prompt) as session:
        converse(session, FileSource(question, LEAD, TAIL), transcript)
    return transcript.text


def called() -> str:
    """How this program is called, to be typed again."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return f"{Path(sys.executable).name} -m moshi_mlx"
    found = shutil.which(path.name)
    if found and path.exists() and os.path.samefile(found, path):
        return path.name
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)
