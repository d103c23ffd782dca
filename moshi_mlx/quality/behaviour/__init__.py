"""How a full-duplex model behaves: when it takes turns, yields and stays silent, by published metrics.

`scene` is what a user does, in the folders of Full-Duplex-Bench.
"""
