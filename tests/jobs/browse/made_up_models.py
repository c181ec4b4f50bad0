"""Made-up models that classify embeddings, and results of them. They have no network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from jobs.result.identity import RunIdentity
from jobs.storage.location import locate
from tagger import ModelInfo, ModelSource, Preprocessing, Sampling, find_model, save_model_file
from tagger.model_file import EmbeddingSpace
from tagger.ood import OODCalibration
from tagger.segments import make_segments
from tagger.windows import Window
from tests.jobs.result.embedded import vectors_of

CHANNELS = 7

CALIBRATION = OODCalibration((-20.0, -10.0, -5.0, -2.0, -1.0))


def write_model(path: Path, labels: Sequence[str], channels: int = CHANNELS, **changes: Any) -> ModelSource:
    """Writes a model file for embeddings of ``channels + 1`` values. Returns the model.

    ``labels`` may be the letters of a text. ``changes`` are other metadata of the model.
    """
    space = EmbeddingSpace(channels + 1, channels, "the space")
    values = {"sampling": Sampling(), "options": {"head": "mean"}, "embedding": space} | changes
    info = ModelInfo("cnn3d-lstm", tuple(labels), preprocessing=Preprocessing(32, 32), **values)
    torch.manual_seed(len(labels))
    weights = {
        "head.dense.weight": torch.randn(len(labels), channels),
        "head.dense.bias": torch.randn(len(labels)),
        "embedder.mean": torch.zeros(channels),
        "embedder.projection": torch.eye(channels),
    }
    save_model_file(path, info, weights)
    return find_model(str(path))


def identity_of(model: ModelSource, top_k: int = 2) -> RunIdentity:
    """The identity of a result that ``model`` made with embeddings, and with overlapping windows."""
    return RunIdentity(model.name, model.hash, Sampling(hop_s=1.0).to_json(), top_k, model.embeddings)


def expected_tags(tags: str | Path, embeddings: str | Path, model: ModelSource, top_k: int) -> list[dict[str, Any]]:
    """The rows that ``tags`` get when ``model`` labels ``embeddings``, computed row by row as ``vtag run`` does."""
    rows = locate(tags).parquet().read().to_pylist()
    probabilities, ood_scores = model.load_answers().classify(vectors_of(locate(embeddings).parquet().read()))
    windows = [Window(row["segment"], row["start_s"], row["end_s"]) for row in rows]
    segments = make_segments(windows, probabilities, model.info.labels, top_k, ood_scores)
    return [
        row
        | {
            "label": segment.label,
            "confidence": segment.confidence,
            "ood_score": segment.ood_score,
            "top_labels": list(segment.top_labels),
            "top_confidences": list(segment.top_confidences),
        }
        for row, segment in zip(rows, segments, strict=True)
    ]
