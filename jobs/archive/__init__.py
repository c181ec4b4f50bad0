"""The videos of an archive: finding them, and detecting changes."""
