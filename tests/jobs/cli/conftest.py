import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def one_core() -> Iterator[None]:
    """Gives the processes that this one starts a single core: a job on Ray then has one model and one decoder."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of a cnn3d-lstm with three labels. It has no real weights."""
    import torch

    from tagger import ModelInfo, Sampling, save_model_file
    from tagger.models.registry import CNN3D_PREPROCESSING

    info = ModelInfo(
        architecture="cnn3d-lstm",
        labels=("Biking", "Diving", "Swing"),
        sampling=Sampling(),
        preprocessing=CNN3D_PREPROCESSING,
        temperature=1.25,
        training={"data": "my-clips", "clips": {"train": 60, "test": 20}},
        scores={"videos": {"accuracy": 0.9123, "confusion": [[1, 0], [0, 1]]}},
    )
    path = tmp_path_factory.mktemp("model") / "mine.safetensors"
    save_model_file(path, info, {"weight": torch.zeros(3)})
    return path
