"""What a change of weights does to what a model says; and recipes chosen by that.

`conversations` are what was said, `predictions` and `metrics` compare, `evaluator` compares `candidates` with a
reference; `search` and `budget` choose recipes and levels.
"""
