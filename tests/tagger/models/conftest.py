"""Shared fixtures: Kinetics checkpoints with the real structure, made once, and a weights server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pytorchvideo.models.hub.resnet import i3d_r50
from pytorchvideo.models.hub.x3d import x3d_m
from torch import nn

from tagger.models import download
from tests.tagger.models.weights_server import WeightsServer


@pytest.fixture(scope="session")
def pytorchvideo_i3d() -> nn.Module:
    """pytorchvideo's I3D ResNet-50, with norms that differ from their initial values and fit the activations."""
    torch.manual_seed(0)
    return with_lively_norms(i3d_r50(), torch.randn(1, 3, 8, 64, 64))


@pytest.fixture(scope="session")
def pytorchvideo_x3d_m() -> nn.Module:
    """pytorchvideo's X3D-M as it is published, with a softmax at its end, and such norms."""
    torch.manual_seed(0)
    return with_lively_norms(x3d_m(), torch.randn(1, 3, 8, 64, 64))


def with_lively_norms(network: nn.Module, x: torch.Tensor) -> nn.Module:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.2)
        for block in network.train().blocks[:-1]:
            x = block(x)
    return network.eval()


@pytest.fixture(scope="session")
def kinetics_checkpoint(pytorchvideo_i3d: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of ``pytorchvideo_i3d`` in pytorchvideo's format."""
    path = tmp_path_factory.mktemp("kinetics") / "I3D_8x8_R50.pyth"
    torch.save({"model_state": pytorchvideo_i3d.state_dict(), "epoch": 196}, path)
    return path


@pytest.fixture(scope="session")
def x3d_m_checkpoint(pytorchvideo_x3d_m: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of ``pytorchvideo_x3d_m`` in pytorchvideo's format."""
    path = tmp_path_factory.mktemp("kinetics") / "X3D_M.pyth"
    torch.save({"model_state": pytorchvideo_x3d_m.state_dict(), "epoch": 300}, path)
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    monkeypatch.setattr(download, "RETRY_WAITS_S", (0.0, 0.0))
    server = WeightsServer()
    yield server
    server.close()


@pytest.fixture
def mirror(server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsServer:
    """Makes vtag download from the server, with an empty cache."""
    monkeypatch.setenv("VTAG_WEIGHTS_URL", server.url)
    monkeypatch.setenv("VTAG_CACHE", str(tmp_path / "cache"))
    return server
