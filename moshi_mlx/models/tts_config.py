"""What a config.json says of text-to-speech. No MLX.

Source: moshi/models/tts.py `TTSModel.from_checkpoint_info`.
"""

from __future__ import annotations

from dataclasses import dataclass

from moshi_mlx.models.config_reader import ConfigReader

TTS = "tts"  # a model_type


@dataclass(frozen=True)
class TtsConfig:
    """How a text-to-speech model reads text.

    delay: seconds from a word to its audio, on top of the streams' own delays.
    words_ahead: how many words further its second text stream is; 0 for models without one.
    """

    delay: float = 0.0
    words_ahead: int = 0


def read_tts(read: ConfigReader) -> TtsConfig:
    """Read `tts_config`, of a model that is made for text-to-speech."""
    settings = read.section("tts_config", {})
    settings.unsupported("multistream")
    tts = TtsConfig(settings.number("audio_delay", 0.0), settings.integer("second_stream_ahead", 0))
    settings.finish()
    return tts
