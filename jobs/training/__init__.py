"""Training on Ray: ``vtag train`` with Ray Train and Ray Data."""
