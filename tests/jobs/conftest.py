"""Fixtures: a small model, a small archive, a bucket, a Ray and a cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clusters import cluster
from tests.videos import encode

if TYPE_CHECKING:
    from tests.jobs.s3_server import Bucket, S3Server


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cnn3d-lstm with random weights, four labels and an input of 32×32 pixels."""
    import torch

    from tagger import ModelInfo, Preprocessing, Sampling, save_model_file
    from tagger.models.registry import build_network

    torch.manual_seed(0)
    options = {"filters": [4, 4, 4], "hidden": 8}
    network = build_network("cnn3d-lstm", 4, options)
    # Larger weights, so that confidences differ from window to window.
    weights = {name: 3 * w if w.is_floating_point() else w for name, w in network.state_dict().items()}
    info = ModelInfo("cnn3d-lstm", ("a", "b", "c", "d"), Sampling(), Preprocessing(32, 32), options=options)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model_file(path, info, weights)
    return path


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good videos of different kinds, and files that only look like videos."""
    folder = tmp_path_factory.mktemp("archive")
    encode(folder / "good.mp4", seconds=5, rate=25)
    encode(folder / "long.mkv", seconds=24, rate=10)
    (folder / "older").mkdir()
    encode(folder / "older/tape.mpg", codec="mpeg1video", seconds=3)
    whole = encode(folder / "cut.mp4", seconds=8, container_options={"movflags": "faststart"}).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video at all\n" * 50)
    return folder


@pytest.fixture(scope="package")
def ray_address() -> Iterator[str]:
    """The address of a Ray with two CPUs that the tests of jobs share: starting one for each takes five seconds.

    It ends with these tests, because an idle Ray takes a twentieth of a core.
    """
    with cluster(2) as nodes:
        yield nodes.address


@pytest.fixture
def shared_ray(ray_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes every job of a test join the shared Ray; gives its address."""
    monkeypatch.setenv("RAY_ADDRESS", ray_address)
    return ray_address


@pytest.fixture(scope="session")
def s3() -> "Iterator[S3Server]":
    """A server of the S3 protocol."""
    from tests.jobs.s3_server import s3_server

    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: "S3Server", monkeypatch: pytest.MonkeyPatch) -> "Iterator[Bucket]":
    """A new bucket. The environment of this process gives access to it."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    yield s3.bucket()
    s3.recover()


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    """The address of a cluster of two nodes with one CPU each."""
    with cluster(1, 1) as nodes:
        yield nodes.address
