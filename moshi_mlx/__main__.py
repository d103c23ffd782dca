"""`python -m moshi_mlx`, the same as `moshi-mlx`."""

from moshi_mlx.cli.main import main

if __name__ == "__main__":
    main()
