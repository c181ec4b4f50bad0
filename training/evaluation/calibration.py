"""Calibration of confidences by temperature scaling (Guo et al., 2017, https://arxiv.org/abs/1706.04599)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

BINS = 15


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Returns the temperature that minimises the cross-entropy of ``[n, classes]`` logits divided by it.

    It is fitted on validation windows. It is bounded to 0.05..20, because a tiny or perfectly separated set would give
    an extreme value.
    """
    log_temperature = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], lr=0.1, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(logits / log_temperature.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return min(max(log_temperature.exp().item(), 0.05), 20.0)


@dataclass(frozen=True)
class Bin:
    """The examples with a confidence between ``low`` and ``high``: their mean confidence and their accuracy."""

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """The expected calibration error of confidences, and the bins from which it is calculated."""

    error: float
    bins: tuple[Bin, ...]


def reliability(truth: np.ndarray, probabilities: np.ndarray) -> Reliability:
    """Compares the confidence and the accuracy of ``[n, classes]`` probabilities; ``truth`` ``[n]`` has the classes.

    The confidence is the probability of the best class. The error is the distance between mean confidence and accuracy,
    averaged over 15 bins of equal width, weighted by the examples of each bin (Guo et al., section 2).
    """
    confidence, is_right = probabilities.max(1), probabilities.argmax(1) == truth
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins: list[Bin] = []
    for i in range(BINS):
        inside = number == i
        examples = int(inside.sum())
        mean = (float(confidence[inside].mean()), float(is_right[inside].mean())) if examples else (0.0, 0.0)
        bins.append(Bin(i / BINS, (i + 1) / BINS, examples, *mean))
    error = sum(bin.examples * abs(bin.confidence - bin.accuracy) for bin in bins) / len(truth)
    return Reliability(error, tuple(bins))
