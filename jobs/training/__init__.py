"""What Ray Train and Ray Data do for ``vtag train``."""
