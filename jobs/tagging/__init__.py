"""The tagging job: planned, run as a pipeline on Ray, committed video by video."""
