"""The program: `moshi-mlx`, `python -m moshi_mlx`."""

import signal
import sys


def main() -> None:
    """Entry point: exit code 0 when all went well, 1 after an error, 2 for wrong usage, 130 after Ctrl-C."""
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: nothing is left half-written
        from moshi_mlx.cli.main import main  # late: Ctrl-C while it imports is no traceback either

        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
