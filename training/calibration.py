"""Temperature scaling (Guo et al., 2017, https://arxiv.org/abs/1706.04599): confidences that mean what they say."""

import torch
from torch import nn


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
