"""Measurements of our parts against what they replace, interleaved in one run."""
