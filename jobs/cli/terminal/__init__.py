"""The output of the commands: progress, tables and summaries."""
