"""Weights in files: safetensors and their shards, which tensor is which parameter, how they are quantized.

Read `safetensors` first, then `key_map` and `quantization`; `lm_weights` puts a file into a model, `adapter`
merges another.
"""
