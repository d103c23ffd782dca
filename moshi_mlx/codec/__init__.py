"""Mimi, the audio codec, as conversations use it: one interface, in front of our MLX Mimi and of rustymimi.

Read `base` first; `load` chooses between `mlx` and `rust`.
"""
