"""The losses of the training loop: those of training and of validation are measured in the same way."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from training import LoopSettings, Step, fit
from training.fitting.loop import MIN_MEASURED, measured
from training.inputs.sources import Targets


class Points:
    """Windows of eight numbers; their mean tells the class, and class 0 is three times as frequent.

    With a seed they are noise, as an extreme case of a random view.
    """

    def __init__(self, windows: int):
        generator = torch.Generator().manual_seed(0)
        labels = (torch.arange(windows) % 4 == 0).long()
        self._points = torch.randn(windows, 8, generator=generator) + 2 * labels[:, None]
        self.targets = Targets(labels, np.arange(windows))

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        return self._points[items] if seed is None else torch.randn(len(items), 8)


def test_on_the_same_windows_the_losses_of_training_and_validation_are_equal() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 2))
    settings = LoopSettings(epochs=3, batch_size=4, label_smoothing=0.4, class_weights="balanced", patience=0)
    for epoch in fit(network, Points(40), Points(40), settings).epochs:
        assert epoch.train_loss == pytest.approx(epoch.val_loss, rel=1e-6)
        assert epoch.train_accuracy == epoch.val_accuracy


def test_the_loss_of_a_step_is_without_label_smoothing_and_class_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(Points):
        def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
            return super().inputs(items, None)

    monkeypatch.setattr("training.fitting.loop.REPORT_INTERVAL_S", 0.0)
    torch.manual_seed(0)
    network, source = nn.Linear(8, 2), Fixed(40)
    everything = torch.arange(40)
    loss = functional.cross_entropy(network(source.inputs(everything, None)), source.targets.labels).item()
    steps: list[Step] = []
    # At this learning rate the weights stay as they are.
    settings = LoopSettings(epochs=1, batch_size=8, learning_rate=1e-12, label_smoothing=0.4)
    fit(network, source, Points(4), settings, on_step=steps.append)
    assert steps[-1].loss == pytest.approx(loss, rel=1e-5)


def test_as_many_training_windows_are_measured_as_there_are_validation_windows() -> None:
    source = Points(5 * MIN_MEASURED)
    few, many = measured(source, 1, "seed"), measured(source, 3 * MIN_MEASURED, "seed")
    assert (len(few), len(many)) == (MIN_MEASURED, 3 * MIN_MEASURED)
    assert len(set(many.tolist())) == len(many)
    assert torch.equal(many, measured(source, 3 * MIN_MEASURED, "seed"))
    assert measured(Points(10), 50, "seed").tolist() == list(range(10))
