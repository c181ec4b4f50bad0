"""Training a network: the recipe, its stages, the loop, checkpoints."""
