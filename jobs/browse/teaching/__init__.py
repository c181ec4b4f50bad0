"""Teaching a model new labels from marks and the embeddings of a result."""
