"""How a model is made and judged: labelled data sets, splits, the training loop, metrics."""
