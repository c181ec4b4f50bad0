"""The inputs of training: labelled clips as arrays for a network."""
