"""Questions that embeddings answer: what looks like an example, what repeats, what is in an archive, other labels."""
