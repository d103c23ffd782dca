"""Talk with a running `moshi-mlx serve` from a program that uses asyncio, with frames of numpy. No MLX.

>>> from moshi_mlx.client import AudioFrame, TextPiece, connect
>>> async with connect("http://localhost:8998", seed=1) as talk:
...     await talk.send(frame)
...     async for message in talk: ...
"""

from moshi_mlx.wire.client import AudioFrame, Message, Metadata, Talk, TextPiece, connect

__all__ = ["AudioFrame", "Message", "Metadata", "Talk", "TextPiece", "connect"]
