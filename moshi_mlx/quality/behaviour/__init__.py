"""How a full-duplex model behaves: when it takes turns, yields and stays silent, by published metrics.

`scene` is what a user does, `builtin` makes scenes; `systems` are whose behaviour is measured, `playing` lets them
answer, `answer` is what they said. `voice` finds speech; `takeover`, `backchannel` and `timing` are the rules of
the benchmark, `measures` what is measured in a sample, `summary` all samples, one model beside another.
"""
