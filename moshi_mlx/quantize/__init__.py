"""A checkpoint in another precision: which layers become what, and a model folder written that way.

Read `quantizer` with its `levels` first; `writer` makes the folder. Recipes are in `weights.quantization`.
"""
