"""How fast this machine is, and how close the pipeline comes to it."""
