"""Measures the speed of this machine and the share of it that the pipeline reaches."""
