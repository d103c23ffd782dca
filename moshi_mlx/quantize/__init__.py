"""A checkpoint in another precision: which layers become what, and a model folder written that way.

Read `recipes` first, then `quantizer` with its `levels`; `writer` makes the folder, and `card` its model card.
"""
