"""Watches a folder or bucket, and tags the videos that arrive as soon as they are complete."""
