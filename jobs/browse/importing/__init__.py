"""Reads marks that were made with other tools."""
