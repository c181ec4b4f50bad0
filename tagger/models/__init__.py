"""The networks, their heads and their weights."""
