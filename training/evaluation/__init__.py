"""Evaluation of models: metrics with confidence intervals, calibration, unknown footage, comparison, cost."""
