"""Weights in files: safetensors, shards and GGUF, which tensor is which parameter, how they are quantized.

Read `safetensors` first, then `key_map` and `quantization`; `int8` and `gguf` are what other programs write;
`lm_weights` puts a file into a model, `values` looks at what it holds, `adapter` merges another.
"""
