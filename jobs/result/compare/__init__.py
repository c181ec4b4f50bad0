"""Compares the videos of an archive with the records of a result: what must be read, and what leaves the result."""
