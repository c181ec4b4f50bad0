"""What a taught head minimises: a convex function of its weights.

Each row, the values of a segment, has a wanted distribution over the labels, and labels that it speaks about. The loss
is the cross-entropy with the distribution, for a softmax over these labels. A mark speaks about all labels. An unmarked
segment has the answer of the old head and speaks about the old labels only, because it may show a new one. The
cross-entropy for a softmax over all labels also counts, with the weight RESERVE.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

RESERVE = 0.1
"""Weight of the loss that says that an unmarked segment shows no new label, which for most of them is true. With 1, the
unmarked segments of a new label would teach that they do not show it. See the table in training/README.md."""

OPTIONS = {"maxiter": 1000, "gtol": 1e-7, "ftol": 1e-12}
"""The end of L-BFGS: at the optimum, for practical purposes."""


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
    return _loss_and_slopes(logits, rows)[0]


def fit(start: Head, rows: Rows, pull: float) -> Head:
    """Returns the head with the smallest loss: the weighted losses of ``rows``, and ``pull`` times its squared distance
    to ``start``.

    The same input gives the same head.
    """
    values = np.column_stack([rows.values, np.ones(len(rows.values))])
    origin = np.column_stack([start.weight, start.bias])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        change = flat.reshape(origin.shape)
        loss, slopes = _loss_and_slopes(values @ (origin + change).T, rows)
        return loss + pull * float((change**2).sum()), (slopes.T @ values + 2 * pull * change).ravel()

    # The matrices are small. With several threads they take longer when other programs run.
    with threadpool_limits(1, "blas"):
        found = minimize(objective, np.zeros(origin.size), jac=True, method="L-BFGS-B", options=OPTIONS)
    head = origin + found.x.reshape(origin.shape)
    return Head(head[:, :-1].copy(), head[:, -1].copy())


def _loss_and_slopes(logits: np.ndarray, rows: Rows) -> tuple[float, np.ndarray]:
    """Returns the loss, and its derivatives by the logits ``[n, classes]``."""
    among_sum, among = _logsumexp_and_softmax(np.where(rows.spoken, logits, -np.inf))
    all_sum, everything = _logsumexp_and_softmax(logits)
    losses = (1 - RESERVE) * among_sum + RESERVE * all_sum - (rows.wanted * logits).sum(axis=1)
    slopes = (1 - RESERVE) * among + RESERVE * everything - rows.wanted
    return float(losses @ rows.weight), slopes * rows.weight[:, None]


def _logsumexp_and_softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    best = logits.max(axis=1, keepdims=True, initial=-np.inf)
    powers = np.exp(logits - best)
    sums = powers.sum(axis=1, keepdims=True)
    return (best + np.log(sums))[:, 0], powers / sums
