"""Workers that train together learn what one learns with as large a batch as theirs together."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from tagger.models.cnn3d import CNN3DLSTM
from training import Epoch, LoopSettings, fit
from training.fitting.loop import predict
from training.inputs.sources import Targets

EPOCHS = 2


class Noise:
    """Windows of noise that differ in brightness by class, two for each video; one class is three times as frequent."""

    def __init__(self, windows: int):
        generator = torch.Generator().manual_seed(0)
        labels = (torch.arange(windows) % 4 == 0).long()
        self._pixels = torch.randn(windows, 3, 4, 16, 16, generator=generator) + labels[:, None, None, None, None]
        self.targets = Targets(labels, np.arange(windows) // 2)

    def inputs(self, items: torch.Tensor, moment: str | None) -> torch.Tensor:
        return self._pixels[items]


def losses(
    batch_size: int, windows: int, checkpoint: Path | None = None, stop_after: int = EPOCHS
) -> list[list[float]]:
    """What each epoch comes to, and what is predicted at the end; stopped after an epoch, nothing."""

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
    # All but the first look for the checkpoint where there is none.
    checkpoint = folder / f"checkpoint of {rank}.pt"
    losses(2, windows, checkpoint, stop_after=1)
    torch.save(losses(2, windows, checkpoint), folder / f"{rank}, gone on.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[(2, 21), (3, 20)], ids=["two workers", "three workers"])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int, Path]:
    """Workers that have trained together, how many windows they had, and the folder with what they came to.

    The last batch is too small for all of them: it has a window for one of two, and two for three.
    """
    workers, windows = request.param
    folder = tmp_path_factory.mktemp("team")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (workers, windows, port, folder), nprocs=workers)
    return workers, windows, folder


@pytest.mark.slow
def test_workers_give_the_losses_of_one_with_as_large_a_batch(together: tuple[int, int, Path]) -> None:
    workers, windows, folder = together
    first, *others = [torch.load(folder / f"{rank}.pt") for rank in range(workers)]
    assert all(other == first for other in others)
    alone = losses(2 * workers, windows)
    for epoch, expected in zip(first, alone, strict=True):
        assert epoch == pytest.approx(expected, rel=1e-3, abs=1e-4)
    # It is not the loss of just any training.
    assert any(abs(epoch[0] - other[0]) > 1e-3 for epoch, other in zip(alone, losses(2, windows), strict=True))


@pytest.mark.slow
def test_workers_go_on_together_from_the_checkpoint_that_the_first_of_them_sees(
    together: tuple[int, int, Path],
) -> None:
    workers, _, folder = together
    assert [path.name for path in folder.glob("checkpoint*")] == ["checkpoint of 0.pt"]
    for rank in range(workers):
        gone_on = torch.load(folder / f"{rank}, gone on.pt")
        for epoch, expected in zip(gone_on, torch.load(folder / "0.pt"), strict=True):
            # In which order three numbers are added depends on who comes first.
            assert epoch == pytest.approx(expected, abs=1e-6)
