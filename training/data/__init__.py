"""Labelled clips: reading them, checking them, splitting them."""
