"""The text of each format, from videos and their spans: a module for each family of formats."""
