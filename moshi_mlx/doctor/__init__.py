"""What a machine is, what is installed on it, whether it works, and which models suit it; works without MLX.

Files, in reading order: `probe` finds out, `report` says it line by line, `verdict` in one.
"""
