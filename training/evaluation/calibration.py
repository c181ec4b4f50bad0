"""Temperature scaling (Guo et al., 2017, https://arxiv.org/abs/1706.04599): confidences that mean what they say."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

BINS = 15


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature that minimises the cross-entropy of ``[n, classes]`` logits divided by it.

    Fitted on validation windows. Bounded to 0.05..20, so that a tiny or perfectly separated set gives no absurd value.
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
    """The examples whose confidence lies between ``low`` and ``high``: how confident, and how often right."""

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """How far confidences are from the truth: the expected calibration error, and the bins it is made of."""

    error: float
    bins: tuple[Bin, ...]


def reliability(truth: np.ndarray, probabilities: np.ndarray) -> Reliability:
    """Compares the confidence of the best class of ``[n, classes]`` with how often it is the ``truth`` ``[n]``.

    The error is the distance between the two, averaged over 15 bins of equal width, each counted as often as it has
    examples (Guo et al., section 2).
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
