"""A live conversation around the one loop: steering it, keeping it, noticing repetition, measuring its latency."""
