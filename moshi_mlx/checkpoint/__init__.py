"""From what a person calls a model to its files, config and weights; importable without MLX up to the weights.

Read `names` (name to folder or repository), `hub`, `settings` (config.json), then `checkpoint`.
"""
