"""The result on disk: its tables, the run folder from which they are published, and their checks."""
