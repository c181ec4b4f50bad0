"""A finished result as one self-contained page: its timelines, its filters, and marks for ``vtag teach``."""
