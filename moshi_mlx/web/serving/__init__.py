"""The whole server: `server` joins clients, model, page and API; `program` is what `moshi-mlx serve` runs."""
