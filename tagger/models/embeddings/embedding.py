"""Embeddings: one vector for each window, made from the features of the backbone. Similar windows have similar vectors.

The features are averaged over time and the picture and normalised, as in the head ``mean``, averaged over the crops,
projected, and scaled to length 1. A model that ``vtag train`` made has a projection of its own
(``embedder``). For other models it is a fixed random matrix with ``EMBEDDING_SIZE`` orthonormal columns, or rows if
there are fewer features. It keeps the angles between vectors approximately (Johnson and Lindenstrauss, 1984), and needs
no training.

This module imports torch only where tensors are made, because the main process of a job must not load it.
"""

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tagger.model_file import ModelInfo

if TYPE_CHECKING:
    import torch

EMBEDDING_SIZE = 512
"""Number of values of an embedding. As float16 they take 1 KiB."""

EMBEDDING_VERSION = 2
"""Version of the computation. A result holds embeddings of one version only."""

SEED = 20


def embedding_identity(info: ModelInfo) -> dict[str, Any]:
    """Returns all that embeddings depend on besides the model and the sampling, in a JSON form, with their ``size``.

    ``space`` is the name of the model's own space of embeddings; None for one without.
    """
    values = asdict(info.preprocessing)
    preprocessing = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    own = info.embedding
    size, space = (EMBEDDING_SIZE, None) if own is None else (own.size, own.space)
    return {"size": size, "version": EMBEDDING_VERSION, "space": space, "preprocessing": preprocessing}


def what_is_kept(info: ModelInfo) -> str:
    """Returns in words what the embeddings of a model keep of what its head sees, and what they serve."""
    own = info.embedding
    if own is None:
        kept = f"they keep the average features in {EMBEDDING_SIZE} values, by a random projection"
    elif info.options.get("head") != "mean":
        kept = f"they keep the average features in {own.size} values, not their order, which the LSTM uses"
    elif len(info.labels) >= own.size:
        kept = f"they keep the average features in {own.size} values, not all that {len(info.labels)} classes use"
    else:
        return f"they keep all that the head uses, in {own.size} values"
    return f"{kept}: for vtag search, similar, clusters and uncertain, not for vtag teach and relabel"


def normalised_features(features: "torch.Tensor", crops: int = 1) -> "torch.Tensor":
    """Averages features over all but their channels, and normalises them as the head ``mean``: to ``[n, C]``.

    ``features`` are ``[n, T, C]`` or ``[n, C, T, H, W]``; with several crops ``[n, crops, ...]``.
    """
    from tagger.models.heads import power_normalised

    if crops > 1:
        return normalised_features(features.flatten(0, 1)).unflatten(0, (len(features), crops)).mean(dim=1)
    return power_normalised(
        features.float().mean(dim=1) if features.ndim == 3 else features.float().flatten(2).mean(dim=2)
    )


def projection(channels: int) -> "torch.Tensor":
    """Returns the fixed random matrix ``[channels, EMBEDDING_SIZE] float32``, the same on every machine."""
    import torch

    # RandomState gives the same numbers in every version of NumPy.
    shape = max(channels, EMBEDDING_SIZE), min(channels, EMBEDDING_SIZE)
    numbers = torch.from_numpy(np.random.RandomState(SEED).standard_normal(shape))
    # The columns of the QR decomposition, by Cholesky: 0.2 s for the built-in model instead of 4 s, and the signs are
    # always the same.
    columns = numbers @ torch.linalg.inv(torch.linalg.cholesky(numbers.T @ numbers)).T
    return (columns if channels >= EMBEDDING_SIZE else columns.T).float().contiguous()


def normalised(vectors: "torch.Tensor") -> "torch.Tensor":
    """Scales ``[n, D]`` vectors to length 1. A vector without a direction becomes one of D equal values."""
    lengths = vectors.norm(dim=1, keepdim=True)
    has_direction = (lengths > 0) & lengths.isfinite()
    return (vectors / lengths).where(has_direction, vectors.new_tensor(1 / math.sqrt(vectors.shape[1])))
