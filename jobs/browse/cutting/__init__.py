"""Cuts moments out of videos, as clips in files of their own."""
