"""L-BFGS for the head ``mean``: the optimum of scikit-learn, and a calibration on windows that were not trained on."""

import warnings
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tagger.errors import TrainingError
from tagger.models.heads import MeanHead, power_normalised
from training.fitting.convex import fit_convex
from training.fitting.epochs import Epoch
from training.fitting.loop import Fit, LoopSettings, class_weights
from training.inputs.sources import FeatureSource, Targets

CHANNELS, CLASSES, DECAY = 24, 3, 0.003


class MadeUpFeatures:
    """Features ``[n, variants, T, C]`` of windows. Windows of one class are alike, those of one group even more."""

    def __init__(self, windows: int, groups: int, seed: int, variants: int = 2):
        numbers = np.random.RandomState(seed)
        group = np.arange(windows) % groups
        labels = group % CLASSES
        centres = np.random.RandomState(5).exponential(size=(CLASSES, CHANNELS))
        scenes = numbers.exponential(size=(groups, CHANNELS))
        noise = numbers.exponential(size=(windows, variants, 2, CHANNELS))
        self.features = torch.from_numpy(centres[labels][:, None, None] + scenes[group][:, None, None] + noise).float()
        self.targets = Targets(torch.from_numpy(labels), np.arange(windows))
        self.groups = np.array([f"g{number}" for number in group])

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        assert seed is None
        return self.features[items, 0]

    def variants(self, items: torch.Tensor) -> torch.Tensor:
        return self.features[items]


def fit_head(train: MadeUpFeatures, **changes: Any) -> tuple[MeanHead, Fit, torch.Tensor, torch.Tensor, list[Epoch]]:
    head = MeanHead(CHANNELS, CLASSES)
    val = MadeUpFeatures(30, 6, seed=9, variants=1)
    usual = {"weight_decay": DECAY, "label_smoothing": 0.0}
    settings = LoopSettings(epochs=100, optimizer="lbfgs", **{**usual, **changes})
    epochs: list[Epoch] = []
    sources = (cast("FeatureSource", source) for source in (train, val))
    found = fit_convex(head, *sources, settings, crops=1, stage="head", on_epoch=epochs.append)
    return head.eval(), *found, epochs


def test_the_head_is_the_optimum_that_scikit_learn_finds() -> None:
    train = MadeUpFeatures(91, 8, seed=1)
    head, fitted, _, _, epochs = fit_head(train)
    labels = train.targets.labels
    weights = class_weights(labels, "balanced")[labels].repeat_interleave(2).double().numpy()
    # Float64, because scikit-learn computes in float32 otherwise, which does not get to the optimum of these features.
    features = power_normalised(train.features.mean(dim=2)).flatten(0, 1).double().numpy()
    reference = LogisticRegression(C=1 / DECAY, tol=1e-8, max_iter=10_000)
    reference.fit(
        features, labels.repeat_interleave(2).numpy(), sample_weight=(weights / weights.sum()).astype(np.float64)
    )
    weight, bias = head.dense.weight.detach().numpy(), head.dense.bias.detach().numpy()
    # Adding the same to all classes changes no probability.
    np.testing.assert_allclose(weight - weight.mean(0), reference.coef_ - reference.coef_.mean(0), atol=2e-3)
    expected = reference.predict_proba(features)
    logits = torch.from_numpy(features @ weight.T + bias)
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), expected, atol=2e-3)
    assert fitted.epochs == tuple(epochs) and fitted.best == len(epochs) < 100
    assert epochs[-1].train_loss < epochs[0].train_loss


def test_features_that_are_not_numbers_end_the_training_with_a_line_that_says_so() -> None:
    train = MadeUpFeatures(30, 6, seed=1)
    train.features[7, 1] = torch.inf
    with pytest.raises(TrainingError, match="features are not numbers; train with --precision fp32"):
        fit_head(train)


def test_the_calibration_is_on_windows_that_were_not_trained_on() -> None:
    train = MadeUpFeatures(96, 96, seed=2)
    # Labels that follow from nothing: only a layer that was trained on a window can know its label.
    generator = torch.Generator().manual_seed(0)
    train.targets = Targets(torch.randint(CLASSES, (96,), generator=generator), train.targets.videos)
    head, _, logits, labels, _ = fit_head(train, class_weights="none", weight_decay=1e-5)
    assert len(logits) == len(labels) == 96 + 30
    np.testing.assert_array_equal(labels[:96], train.targets.labels)
    own = head(train.features[:, 0])
    seen, held_out = ((found.argmax(1) == train.targets.labels).float().mean() for found in (own, logits[:96]))
    assert seen > held_out + 0.15 and held_out < 0.45
    # The validation windows come last, with the logits of the head.
    val = MadeUpFeatures(30, 6, seed=9, variants=1)
    torch.testing.assert_close(logits[96:], head(val.features[:, 0]), atol=0.05, rtol=0)


@pytest.mark.parametrize("groups", [3, 2])
def test_with_few_groups_the_validation_windows_alone_calibrate(groups: int) -> None:
    train = MadeUpFeatures(40, groups, seed=3)
    _, _, logits, labels, _ = fit_head(train)
    assert len(logits) == len(labels) == 30


def with_labels(labels: list[int]) -> MadeUpFeatures:
    """Windows with these labels, each in a group of its own."""
    train = MadeUpFeatures(len(labels), len(labels), seed=4)
    train.targets = Targets(torch.tensor(labels), train.targets.videos)
    return train


def test_with_fewer_windows_of_each_class_than_folds_the_validation_windows_alone_calibrate() -> None:
    _, _, logits, labels, _ = fit_head(with_labels([0, 1, 2] * 3))
    assert len(logits) == len(labels) == 30


def test_a_class_with_few_windows_is_no_reason_for_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, _, logits, labels, _ = fit_head(with_labels([0, 1] * 12 + [2, 2, 2]))
    assert len(logits) == len(labels) == 27 + 30


def test_a_window_whose_class_was_left_out_with_it_is_not_in_the_calibration() -> None:
    train = with_labels([0, 1] * 12 + [2, 2])
    train.groups[-2:] = "one video"
    _, _, logits, labels, _ = fit_head(train)
    assert len(logits) == len(labels) == 24 + 30
    assert set(labels[:24].tolist()) == {0, 1}
