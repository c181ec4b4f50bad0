"""Questions to a finished result: its events, its best moments, and clips of them. Nothing is tagged again."""
