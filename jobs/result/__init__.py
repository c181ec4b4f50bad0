"""The result on disk: the tables, the run folder that leads to them, and how they are checked."""
