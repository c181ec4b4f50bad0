"""Several workers give the same result as one worker with a batch as large as all of theirs."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from tagger.models.cnn3d import CNN3DLSTM
from training import Epoch, LoopSettings, fit
from training.fitting.passes import predict
from training.inputs.sources import Targets

EPOCHS = 2


class Noise:
    """Windows of noise that differ in brightness by class, two for each video; one class is three times as frequent."""

    def __init__(self, windows: int):
        generator = torch.Generator().manual_seed(0)
        labels = (torch.arange(windows) % 4 == 0).long()
        self._pixels = torch.randn(windows, 3, 4, 16, 16, generator=generator) + labels[:, None, None, None, None]
        self.targets = Targets(labels, np.arange(windows) // 2)

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        return self._pixels[items]


def losses(
    batch_size: int, windows: int, checkpoint: Path | None = None, stop_after: int = EPOCHS
) -> list[list[float]]:
    """Trains, and returns the results of each epoch and the predictions at the end.

    Returns an empty list when the training is stopped after an epoch.
    """

    def on_epoch(epoch: Epoch) -> None:
        if epoch.number == stop_after < EPOCHS:
            raise InterruptedError

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = CNN3DLSTM(2, filters=(4, 4, 4), hidden=8, dropout=0)
    settings = LoopSettings(epochs=EPOCHS, batch_size=batch_size, learning_rate=0.01, patience=0)
    try:
        fitted = fit(network, Noise(windows), Noise(6), settings, checkpoint=checkpoint, on_epoch=on_epoch)
    except InterruptedError:
        return []
    predicted = predict(network, Noise(6), 4).softmax(1)[:, 0].tolist()
    return [[epoch.train_loss, epoch.train_accuracy, epoch.val_loss] for epoch in fitted.epochs] + [predicted]


def work(rank: int, workers: int, windows: int, port: int, folder: Path) -> None:
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    torch.save(losses(2, windows), folder / f"{rank}.pt")
    # Only the first worker has its checkpoint file; those of the others do not exist.
    checkpoint = folder / f"checkpoint of {rank}.pt"
    losses(2, windows, checkpoint, stop_after=1)
    torch.save(losses(2, windows, checkpoint), folder / f"{rank}, resumed.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[(2, 21), (3, 20)], ids=["two workers", "three workers"])
def trained_workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int, Path]:
    """The number of workers that have trained together, their number of windows, and the folder of their results.

    The last batch has fewer windows than workers: one for two workers, and two for three.
    """
    workers, windows = request.param
    folder = tmp_path_factory.mktemp("team")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (workers, windows, port, folder), nprocs=workers)
    return workers, windows, folder


@pytest.mark.slow
def test_several_workers_give_the_losses_of_one_worker_with_their_total_batch(
    trained_workers: tuple[int, int, Path],
) -> None:
    workers, windows, folder = trained_workers
    first, *others = [torch.load(folder / f"{rank}.pt") for rank in range(workers)]
    assert all(other == first for other in others)
    alone = losses(2 * workers, windows)
    for epoch, expected in zip(first, alone, strict=True):
        assert epoch == pytest.approx(expected, rel=1e-3, abs=1e-4)
    # A training with another batch size has other losses.
    assert any(abs(epoch[0] - other[0]) > 1e-3 for epoch, other in zip(alone, losses(2, windows), strict=True))


@pytest.mark.slow
def test_all_workers_resume_from_the_checkpoint_of_the_first(
    trained_workers: tuple[int, int, Path],
) -> None:
    workers, _, folder = trained_workers
    assert [path.name for path in folder.glob("checkpoint*")] == ["checkpoint of 0.pt"]
    for rank in range(workers):
        resumed = torch.load(folder / f"{rank}, resumed.pt")
        for epoch, expected in zip(resumed, torch.load(folder / "0.pt"), strict=True):
            # The order in which three numbers are added depends on which worker is first.
            assert epoch == pytest.approx(expected, abs=1e-6)
