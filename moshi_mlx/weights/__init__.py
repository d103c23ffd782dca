"""Weights in files: safetensors and their shards, which tensor is which parameter, how they are quantized.

Read `safetensors` first, then `key_map` and `scheme`; `lm_weights` puts them into a model.
"""
