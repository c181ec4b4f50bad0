"""Writes a finished result anew, in place or as another result."""
