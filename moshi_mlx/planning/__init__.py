"""What a model needs and what a machine gives: bytes, milliseconds a frame, what fits. Arithmetic, without MLX."""
