"""Embeddings: vectors that stand for the look of windows, and answers that are computed from them."""
