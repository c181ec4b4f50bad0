"""A made-up archive with a real model: segments of Biking, Diving and Swing, of which the model knows the first two."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from jobs.result.identity import RunIdentity
from tagger import ModelInfo, Sampling, find_model, save_model_file
from tagger.model_file import EmbeddingSpace
from tagger.models.embeddings.embedder import Embedder
from tagger.models.registry import build_network
from tagger.ood import OODCalibration
from tagger.preprocessing import Preprocessing
from tagger.tagger import ModelSource
from tests.jobs.browse.made_up import make_video, with_vectors
from tests.jobs.result.finished import publish_to

SIZE = 9
"""Values of an embedding: eight, and the constant."""

OPTIONS = {"head": "mean", "filters": [4, 8, 8]}

INFO = ModelInfo(
    "cnn3d-lstm",
    ("Biking", "Diving"),
    Sampling(num_frames=4),
    Preprocessing(32, 32),
    temperature=0.5,
    options=OPTIONS,
    training={"data": "clips", "groups": {"test": ["1"]}},
    scores={"videos": {"accuracy": 1.0}},
    ood=OODCalibration(tuple(np.linspace(-3, -1, 50))),
)

SHOWN = ["Biking", "Swing", "Diving", "Swing", "Biking", "Diving", "Biking"]
"""What segments of a video show; the others begin with a later one."""

AXES = {"Biking": 0, "Diving": 1, "Swing": 2, "Surfing": 3}
"""Segments that show a class lie at 4 on this axis."""


def make_model(path: Path) -> ModelSource:
    """Writes a model file with real layers. Its head knows Biking and Diving by their axes of the embeddings."""
    torch.manual_seed(0)
    network = build_network("cnn3d-lstm", 2, OPTIONS)
    channels = network.head.dense.in_features  # type: ignore[union-attr, operator]
    embedder = Embedder.fit(torch.rand(50, channels), SIZE)
    network.embedder = embedder
    head = embedder.features_head(torch.eye(2, SIZE - 1), torch.zeros(2))
    weights = network.state_dict() | {"head.dense.weight": head[0], "head.dense.bias": head[1]}
    save_model_file(path, replace(INFO, embedding=EmbeddingSpace(SIZE, channels, "0123abcd")), weights)
    return find_model(str(path))


def identity_of(source: ModelSource, *, has_embeddings: bool = True) -> RunIdentity:
    embeddings = source.embeddings if has_embeddings else None
    return RunIdentity(source.name, source.hash, source.info.sampling.to_json(), 2, embeddings)


def vectors_of(shown: list[str], seed: int) -> np.ndarray:
    """Embeddings of segments that show these classes, not yet of length 1, ``[n, SIZE]``."""
    random = np.random.default_rng(seed)
    values = 4 * np.eye(SIZE)[[AXES[label] for label in shown]] + 0.4 * random.standard_normal((len(shown), SIZE))
    values[:, -1] = 4.0
    return values


@dataclass(frozen=True)
class Archive:
    """A result, the model that made it, and what each segment of 2 s shows, by video."""

    tags: Path
    model: Path
    shown: dict[str, list[str]]


def make_archive(folder: Path, name: str = "tags.parquet") -> Archive:
    """Publishes the result of eight videos."""
    source = make_model(folder / "old.safetensors")
    shown = {f"/v/{number}.mp4": SHOWN[number % 3 :] for number in range(8)}
    videos = [
        with_vectors(make_video(video, [{"Biking": 0.6, "Diving": 0.4}] * len(labels)), vectors_of(labels, seed))
        for seed, (video, labels) in enumerate(shown.items())
    ]
    publish_to(folder / name, videos, identity=identity_of(source))
    return Archive(folder / name, folder / "old.safetensors", shown)
