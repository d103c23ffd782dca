"""What a machine is, what is installed on it, whether it works, and which models suit it; works without MLX."""
