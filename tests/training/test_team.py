"""Two workers that train together learn what one learns with twice the batch."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from tagger.models.cnn3d import CNN3DLSTM
from training import LoopSettings, fit
from training.loop import predict
from training.sources import Targets

WINDOWS = 21
"""Not a multiple of the batch: the last one has a single window, and one of two workers none."""


class Noise:
    """Windows of noise that differ in brightness by class, two for each video; one class is three times as frequent."""

    def __init__(self, windows: int = WINDOWS):
        generator = torch.Generator().manual_seed(0)
        labels = (torch.arange(windows) % 4 == 0).long()
        self._pixels = torch.randn(windows, 3, 4, 16, 16, generator=generator) + labels[:, None, None, None, None]
        self.targets = Targets(labels, np.arange(windows) // 2)

    def inputs(self, items: torch.Tensor, moment: str | None) -> torch.Tensor:
        return self._pixels[items]


def losses(batch_size: int, network: nn.Module | None = None) -> list[list[float]]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = network or CNN3DLSTM(2, filters=(4, 4, 4), hidden=8, dropout=0)
    settings = LoopSettings(epochs=4, batch_size=batch_size, learning_rate=0.01, patience=0)
    fitted = fit(network, Noise(), Noise(6), settings)
    predicted = predict(network, Noise(6), 4).softmax(1)[:, 0].tolist()
    return [[epoch.train_loss, epoch.train_accuracy, epoch.val_loss] for epoch in fitted.epochs] + [predicted]


def work(rank: int, port: int, folder: Path) -> None:
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(losses(batch_size=2), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_give_the_losses_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, tmp_path), nprocs=2)
    together = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert together[0] == together[1]
    alone = losses(batch_size=4)
    for epoch, expected in zip(together[0], alone, strict=True):
        assert epoch == pytest.approx(expected, abs=1e-4)
    # It is not the loss of just any training.
    assert any(abs(epoch[0] - other[0]) > 1e-3 for epoch, other in zip(alone, losses(batch_size=2), strict=True))
