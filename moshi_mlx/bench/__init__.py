"""Measuring the program: graph counts, bytes per frame, times. Needs no download: weights can be random."""
