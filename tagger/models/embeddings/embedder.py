"""Embeddings that are fitted to a model: a few values that keep most of its features and all that its head uses."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EMBEDDER_SIZE = 384
"""Number of values of an embedding for which embedders are trained. As float16 they take 768 bytes."""

CONSTANT = 4.0
"""The last value of an embedding before it is scaled to length 1. It tells by how much the others were scaled."""

NEGLIGIBLE = 1e-5
"""Directions with a smaller share of the largest variation are not used."""

HEAD_TOLERANCE = 0.01
"""Largest part of a head's weights that embeddings may lack, as a share of their norm. Rounding to float16 makes
0.001."""

Values = TypeVar("Values", torch.Tensor, np.ndarray)


class Embedder(nn.Module):
    """Turns normalised features ``[n, channels]`` into embeddings ``[n, size]`` of length 1.

    The features are centred at ``mean`` and projected to ``size - 1`` values by the rows of ``projection``. The last
    value is a constant. Then all are scaled to length 1. So cosines compare windows, and the projected values can be
    computed back.
    """

    mean: torch.Tensor
    projection: torch.Tensor

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("projection", torch.zeros(size - 1, channels))

    @property
    def size(self) -> int:
        """The number of values of an embedding."""
        return len(self.projection) + 1

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, channels]`` to ``[n, size]``."""
        values = (features - self.mean) @ self.projection.T
        return functional.normalize(functional.pad(values, (0, 1), value=CONSTANT), dim=1)

    def linear_head(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Turns a dense layer on features into one on projected values.

        ``weight`` is ``[classes, channels]`` and ``bias`` ``[classes]``. Returns a weight ``[classes, size - 1]`` and a
        bias ``[classes]`` with the same logits. Returns None when the embeddings lack a part of what the layer uses.
        """
        # Float64, because the rows of the projection are orthonormal only up to the rounding of the model file.
        rows, wanted = self.projection.double(), weight.double()
        # Least squares. Rows of zeros, which embedders of few features have, get zeros.
        products = rows @ rows.T + torch.diag((rows == 0).all(dim=1).double())
        on_values = torch.linalg.solve(products, rows @ wanted.T).T
        # Adding the same to all classes changes no probability.
        lost = wanted - on_values @ rows
        lost = lost - lost.mean(dim=0)
        if lost.norm() > HEAD_TOLERANCE * (wanted - wanted.mean(dim=0)).norm():
            return None
        return on_values.to(weight.dtype), (bias.double() + wanted @ self.mean.double()).to(weight.dtype)

    def features_head(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Turns a dense layer on projected values into one on features, the inverse of ``linear_head``.

        ``weight`` is ``[classes, size - 1]`` and ``bias`` ``[classes]``. Returns a weight ``[classes, channels]`` and a
        bias ``[classes]`` with the same logits.
        """
        on_features = weight.double() @ self.projection.double()
        return on_features.to(weight.dtype), (bias.double() - on_features @ self.mean.double()).to(weight.dtype)

    @classmethod
    def fit(cls, features: torch.Tensor, size: int, head: torch.Tensor | None = None) -> "Embedder":
        """Fits an embedder to normalised ``features`` ``[n, channels]`` of training windows.

        The projection keeps all that a dense layer with the weights ``head`` ``[classes, channels]`` uses. The rest is
        for the directions in which the features vary most: their principal components. If there are too few of them,
        random directions follow, the same on every machine. A head with more classes than values is not kept.
        """
        features = features.double()
        channels = features.shape[1]
        embedder = cls(channels, size)
        mean = features.mean(dim=0)
        rows = torch.empty(0, channels, dtype=torch.double)
        for directions in _directions(features - mean, head, size):
            # Twice, because one pass of Gram-Schmidt leaves rounding errors.
            for _ in range(2):
                directions = directions - directions @ rows.T @ rows
            rows = torch.cat([rows, _principal(directions)])[: min(size - 1, channels)]
        embedder.mean.copy_(mean)
        embedder.projection[: len(rows)] = rows
        return embedder


def _principal(rows: torch.Tensor) -> torch.Tensor:
    """Returns the principal directions of ``rows`` ``[n, channels]``, orthonormal, the largest first.

    They are computed from the products of the rows, which takes a fraction of the time of a singular value
    decomposition when there are many channels.
    """
    count, channels = rows.shape
    squares, vectors = torch.linalg.eigh(rows @ rows.T if count <= channels else rows.T @ rows)
    kept = squares > NEGLIGIBLE**2 * squares[-1:].clamp(min=1e-24)
    vectors = vectors[:, kept].flip(1)
    return vectors.T if count > channels else vectors.T @ rows / squares[kept].flip(0).sqrt()[:, None]


def _directions(centred: torch.Tensor, head: torch.Tensor | None, size: int) -> Iterator[torch.Tensor]:
    if head is not None and len(head) < size:
        yield head.detach().double() - head.detach().double().mean(dim=0)
    yield centred
    shape = min(size, centred.shape[1]), centred.shape[1]
    yield torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)


def values_of(embeddings: Values) -> Values:
    """Returns the projected values ``[n, size - 1]`` of embeddings ``[n, size]``."""
    return embeddings[:, :-1] * (CONSTANT / embeddings[:, -1:])
