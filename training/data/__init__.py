"""Labelled data sets: reading, checking and splitting them."""
