"""Whatever bytes come in place of a recording: they are walked to an end, or refused in one line."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.audio.containers import recordings
from moshi_mlx.audio.wav import header
from moshi_mlx.errors import AudioFileError
from tests.anything import one_line

beginnings = st.sampled_from(
    [
        b"",
        header(100),
        header(0xFFFF_FFFF),
        b"RF64\xff\xff\xff\xffWAVEds64",
        b"RIFX\0\0\0\0WAVE",
        b"FORM\0\0\0\0AIFF",
        b"riff" + bytes(60),
        b".snd\0\0\0\x18",
        b"OggS\0\2" + bytes(20) + b"\1",
        b"fLaC" + bytes(30),
        b"ID3\4\0\0",
        b"\xff\xfb\x90\0",
        b"\xff\xf1",
        b"\0\0\0\x20ftyp",
    ]
)
chunks = st.builds(
    lambda name, size, body: name + size.to_bytes(4, "little") + body,
    st.sampled_from([b"data", b"fmt ", b"ds64", b"SSND", b"OggS", b"ID3\3", b"\xff\xfb\x90\0"]),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=40),
)


# Only our own walk: libsndfile, which decodes what is left, is no parser of ours.
@given(beginning=beginnings, rest=st.lists(st.one_of(chunks, st.binary(max_size=40)), max_size=6))
def test_any_bytes_are_walked_to_an_end_or_refused(beginning: bytes, rest: list[bytes]) -> None:
    content = beginning + b"".join(rest)
    try:
        found = recordings(io.BytesIO(content), "it")
    except AudioFileError as refused:
        one_line(refused)
        return
    assert found
    for recording in found:
        recording.file.seek(0)
        assert len(recording.file.read()) <= len(content)
