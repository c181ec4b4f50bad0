"""What a taught head minimises: a convex function of its weights.

Each row, the values of a segment, has a wanted distribution over the labels, and labels that it speaks about. The loss
is the cross-entropy with the distribution, for a softmax over these labels. A mark speaks about all labels. An unmarked
segment has the answer of the old head and speaks about the old labels only, because it may show a new one. The
cross-entropy for a softmax over all labels also counts, with the weight RESERVE.
"""

from dataclasses import dataclass

import numpy as np
import torch

RESERVE = 0.1
"""Weight of the loss that says that an unmarked segment shows no new label, which for most of them is true. With 1, the
unmarked segments of a new label would teach that they do not show it. See the table in training/README.md."""

ITERATIONS = 200
"""Largest number of steps of L-BFGS."""


@dataclass(frozen=True)
class Head:
    """A dense layer on ``d`` values: ``weight`` ``[classes, d]`` and ``bias`` ``[classes]``, float64."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Returns the logits ``[n, classes]`` of ``values`` ``[n, d]``."""
        return values @ self.weight.T + self.bias


@dataclass(frozen=True)
class Rows:
    """``n`` segments, and what is wanted of them.

    ``values`` are ``[n, d]``, ``wanted`` ``[n, classes]`` distributions, ``spoken`` ``[n, classes] bool`` the labels
    that each row speaks about, and ``weight`` ``[n]`` the weights of the rows in the loss.
    """

    values: np.ndarray
    wanted: np.ndarray
    spoken: np.ndarray
    weight: np.ndarray

    def take(self, chosen: np.ndarray) -> "Rows":
        """Returns the rows where the mask ``chosen`` is true."""
        return Rows(self.values[chosen], self.wanted[chosen], self.spoken[chosen], self.weight[chosen])


def loss_of(logits: np.ndarray, rows: Rows) -> float:
    """Returns the sum of the weighted losses of ``rows`` with the ``logits`` ``[n, classes]``."""
    return float((_losses(torch.from_numpy(logits), *_tensors(rows)).numpy() * rows.weight).sum())


def fit(start: Head, rows: Rows, pull: float) -> Head:
    """Returns the head with the smallest loss: the weighted losses of ``rows``, and ``pull`` times its squared distance
    to ``start``.

    The same input gives the same head.
    """
    values, weight = torch.from_numpy(rows.values), torch.from_numpy(rows.weight)
    wanted, spoken = _tensors(rows)
    origin = torch.from_numpy(np.column_stack([start.weight, start.bias]))
    change = torch.zeros_like(origin, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [change], max_iter=ITERATIONS, tolerance_grad=1e-6, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        now = origin + change
        found = _losses(values @ now[:, :-1].T + now[:, -1], wanted, spoken)
        loss = (found * weight).sum() + pull * change.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = (origin + change).detach().numpy()
    return Head(found[:, :-1].copy(), found[:, -1].copy())


def _tensors(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(rows.wanted), torch.from_numpy(rows.spoken)


def _losses(logits: torch.Tensor, wanted: torch.Tensor, spoken: torch.Tensor) -> torch.Tensor:
    among = logits.masked_fill(~spoken, -torch.inf).logsumexp(dim=1)
    return (1 - RESERVE) * among + RESERVE * logits.logsumexp(dim=1) - (wanted * logits).sum(dim=1)
