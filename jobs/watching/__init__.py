"""``vtag watch``: tags the videos of a folder as they arrive, and live pictures while they are shown."""
