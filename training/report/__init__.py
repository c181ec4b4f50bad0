"""Reports of evaluations and comparisons: tables, plots, an HTML page."""
