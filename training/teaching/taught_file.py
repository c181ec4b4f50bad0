"""The model file of a taught head: the backbone and the embeddings of the model that was taught, and another head."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tagger.errors import ModelFileError
from tagger.model_file import save_model_file
from tagger.models.embeddings.embedder import Embedder
from tagger.ood import OODCalibration
from tagger.tagger import ModelSource
from training.teaching.objective import Head


def write_taught(
    out: Path,
    source: ModelSource,
    labels: tuple[str, ...],
    head: Head,
    temperature: float,
    ood: OODCalibration | None,
    training: Mapping[str, Any],
) -> None:
    """Writes the model ``source`` with ``head`` for ``labels`` to ``out``. The space of embeddings stays the same.

    ``training`` says what it was taught. Scores and held-out groups of ``source`` are left out: they are not those of
    the new head. Raises ModelFileError when ``source`` has no fitted embeddings.
    """
    space = source.info.embedding
    if space is None:
        raise ModelFileError(f"{source.name} has no embeddings of its own; train a model with vtag train --head mean")
    # Not read_weights, which would turn float16 into float32.
    weights = load_file(source.file_here)
    embedder = Embedder(space.channels, space.size)
    embedder.load_state_dict({name: weights[f"embedder.{name}"] for name in ("mean", "projection")})
    weight, bias = embedder.features_head(torch.from_numpy(head.weight), torch.from_numpy(head.bias))
    # Matrices have the precision of those of vtag train.
    weights |= {"head.dense.weight": weight.half(), "head.dense.bias": bias.float()}
    info = replace(source.info, labels=labels, temperature=temperature, ood=ood, training=training, scores={})
    save_model_file(out, info, weights)
