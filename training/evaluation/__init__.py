"""How good a model is: metrics with confidence intervals, calibration, unknown footage, comparison, cost."""
