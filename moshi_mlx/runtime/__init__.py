"""Conversations as they run: a session is a row of a batch, a scheduler steps the batch, a pipeline moves frames.

Bottom up: `sampling`, `delays` and `step` make one frame; `session` and `moshi` are what programs hold; `queues`,
`flow`, `pipeline`, `scheduler` and `engine` move frames; `stats`, `trace` and `limits` watch.
Nothing here knows audio.
"""
