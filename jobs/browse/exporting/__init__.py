"""Writes segments and events in the formats of other tools."""
