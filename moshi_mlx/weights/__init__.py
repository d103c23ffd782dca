"""Weights in files: safetensors and their shards, which tensor is which parameter, how they are quantized.

Read `safetensors` first, then `scheme`; `lm_weights` puts a file into a model, and `adapter` merges another one.
"""
