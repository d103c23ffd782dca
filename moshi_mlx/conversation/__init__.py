"""A live conversation around the loop: steered, recorded, written down, watched for repetition, timed.

Read `conversation` first, then who it tells (`observer`) and what decides for it (`trimming`, `repetition`);
`transcript`, `recorder` and `timeline` keep what was said, `latency` measures the way from mouth to ear.
"""
