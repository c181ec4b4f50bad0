"""Measures the speed of this machine, and how close the pipeline comes to it."""
