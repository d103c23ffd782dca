"""What is measured here is often made by quantize: its checkpoint, and converting it."""

from tests.quantize.conftest import make, small

__all__ = ["make", "small"]
