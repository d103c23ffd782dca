"""Conversations as they run: a session is a row of a batch, a scheduler steps the batch, a pipeline moves frames.

Bottom up: `sampling` and `step` make one frame; `session`, `batch` and `moshi` are what programs hold; `flow`,
`pipeline`, `engine` and `scheduler` move frames; `stats`, `trace` and `limits` watch. Nothing here knows audio.
"""
