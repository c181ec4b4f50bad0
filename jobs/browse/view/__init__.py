"""Serves the page of a result on this machine alone: videos with ranges, previews, and a file of marks."""
