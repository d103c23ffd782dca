"""espeak-ng through its library, which tells when every phone and every word begins."""

import ctypes
import threading
from functools import cache

import numpy as np

from training import phones


class _Event(ctypes.Structure):
    class _Id(ctypes.Union):
        _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]

    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    ]  # fmt: skip


_SYNCHRONOUS, _PHONEME_EVENTS = 2, 1  # espeak_AUDIO_OUTPUT and the options of espeak_Initialize, speak_lib.h
_END_OF_LIST, _WORD, _PHONEME = 0, 1, 7
_RATE_PARAMETER, _PITCH_PARAMETER = 1, 3
_ONE_AT_A_TIME = threading.Lock()  # the library has one callback and one voice
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@cache
def _library():
    try:
        library = ctypes.CDLL("libespeak-ng.so.1")
    except OSError as error:
        raise RuntimeError("espeak-ng is not installed") from error
    return library, library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)


Segment = tuple[int, float, float]


def speak(
    name: str, text: str, speed: float, pitch: float
) -> tuple[np.ndarray, int, list[Segment], list[tuple[int, float]]]:
    """Samples and their rate; phones, each with its beginning and its end in seconds; where in the text each word
    begins, and when.

    Raises RuntimeError if espeak-ng or the voice is not there.
    """
    with _ONE_AT_A_TIME:
        library, rate = _library()
    blocks: list[np.ndarray] = []
    onsets: list[tuple[str, float]] = []
    words: list[tuple[int, float]] = []

    def callback(samples, count, events) -> int:
        if samples and count:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END_OF_LIST:
            if events[index].type == _PHONEME:
                onsets.append((bytes(events[index].id.string).decode(), events[index].sample / rate))
            elif events[index].type == _WORD:
                words.append((events[index].text_position - 1, events[index].sample / rate))
            index += 1
        return 0

    with _ONE_AT_A_TIME:
        kept = _CALLBACK(callback)
        library.espeak_SetSynthCallback(kept)
        if library.espeak_SetVoiceByName(name.encode()):
            raise RuntimeError(f"espeak-ng has no voice {name}")
        library.espeak_SetParameter(_RATE_PARAMETER, round(165 * speed), 0)
        library.espeak_SetParameter(_PITCH_PARAMETER, round(50 * pitch), 0)
        spoken = text.encode()
        library.espeak_Synth(spoken, len(spoken) + 1, 0, 1, 0, 1, None, None)
        library.espeak_Synchronize()
    pcm = np.concatenate(blocks).astype(np.float32) / 32768
    ends = [time for _, time in onsets[1:]] + [len(pcm) / rate]
    segments = [(phones.from_espeak(phone), start, end) for (phone, start), end in zip(onsets, ends, strict=True)]
    return pcm, rate, segments, words
