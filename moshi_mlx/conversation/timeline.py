"""A plot of a conversation as SVG: each side's waveform, and its words at the times they are said."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from moshi_mlx.errors import AudioFileError, system_errors
from moshi_mlx.frames import SAMPLE_RATE

_SECOND = 90  # pixels
_MARGIN, _TOP = 70, 20
_ROW, _ROWS = 16, 3  # lines of words above a waveform, so that quick ones do not overlap
_WAVE = 90  # pixels from the loudest to the lowest sample
_LETTER = 6.6  # pixels, about
_COLOURS = ("#3060c0", "#c05020", "#308050", "#805090")


@dataclass(frozen=True)
class Track:
    """One side. pcm: (samples,) float32 at 24 kHz; words: (seconds, text)."""

    name: str
    pcm: np.ndarray
    words: Sequence[tuple[float, str]]


def draw(tracks: Sequence[Track]) -> str:
    """Return the SVG document. All tracks begin at 0 s."""
    seconds = max((len(track.pcm) / SAMPLE_RATE for track in tracks), default=0.0)
    width = 2 * _MARGIN + seconds * _SECOND
    height = _TOP + len(tracks) * _track_height() + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width:.0f}" height="{height}" fill="white"/>',
    ]
    floor = height - 25
    for second in range(int(seconds) + 1):
        x = _MARGIN + second * _SECOND
        parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{floor}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{x}" y="{floor + 15}" text-anchor="middle" fill="#777">{second} s</text>')
    for index, track in enumerate(tracks):
        parts += _track(track, _TOP + index * _track_height(), _COLOURS[index % len(_COLOURS)])
    return "\n".join([*parts, "</svg>", ""])


def save(path: str | Path, tracks: Sequence[Track]) -> None:
    """Write `draw(tracks)`. Raises AudioFileError where the system refuses."""
    with system_errors(f"cannot write {path}", AudioFileError):
        Path(path).write_text(draw(tracks), encoding="utf-8")


def _track_height() -> int:
    return _ROWS * _ROW + _WAVE + 14


def _track(track: Track, top: int, colour: str) -> list[str]:
    middle = top + _ROWS * _ROW + _WAVE / 2
    parts = [f'<text x="10" y="{middle + 4:.0f}" fill="{colour}" font-weight="bold">{escape(track.name)}</text>']
    ends = [0.0] * _ROWS
    for seconds, text in track.words:
        word = text.strip()
        if not word:
            continue
        x = _MARGIN + seconds * _SECOND
        row = next((row for row in range(_ROWS) if ends[row] <= x), min(range(_ROWS), key=ends.__getitem__))
        ends[row] = max(x, ends[row]) + _LETTER * (len(word) + 1)
        y = top + _ROWS * _ROW - 4 - row * _ROW
        parts.append(
            f'<line x1="{x:.1f}" y1="{y + 3}" x2="{x:.1f}" y2="{middle:.0f}" stroke="{colour}" opacity="0.25"/>'
        )
        parts.append(f'<text x="{x + 2:.1f}" y="{y}" fill="#222">{escape(word)}</text>')
    parts.append(f'<path d="{_envelope(track.pcm, middle)}" fill="{colour}"/>')
    return parts


def _envelope(pcm: np.ndarray, middle: float) -> str:
    """The outline of a waveform in steps of two pixels, never thinner than a line."""
    step = 2 * SAMPLE_RATE // _SECOND
    columns = -(-len(pcm) // step)
    padded = np.zeros(columns * step, np.float32)
    padded[: len(pcm)] = np.clip(pcm, -1, 1)
    blocks = padded.reshape(columns, step)
    top = middle - np.maximum(blocks.max(axis=1, initial=0.0), 0.005) * _WAVE / 2
    bottom = middle - np.minimum(blocks.min(axis=1, initial=0.0), -0.005) * _WAVE / 2
    x = _MARGIN + 2 * np.arange(columns)
    there = [f"{a},{b:.1f}" for a, b in zip(x, top, strict=True)]
    back = [f"{a},{b:.1f}" for a, b in zip(x[::-1], bottom[::-1], strict=True)]
    return f"M{' L'.join(there + back)} Z" if columns else ""
