"""The head ``mean`` on a frozen backbone, trained to its optimum with L-BFGS.

The loss of a dense layer on fixed features, with an L2 penalty, is convex. So it has one minimum, which does not depend
on a learning rate, a batch size or a seed. L-BFGS (Liu and Nocedal, 1989, https://doi.org/10.1007/BF01589116) finds it
in some dozen passes over all windows.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tagger.errors import TrainingError
from tagger.models.embeddings.embedding import normalised_features
from tagger.models.heads import MeanHead
from training.fitting.epochs import Epoch
from training.fitting.loop import Fit, LoopSettings, class_weights, loss_and_accuracy, video_accuracy
from training.inputs.sources import FeatureSource

STEPS = 4
"""Steps of L-BFGS in an epoch. Each takes one or two passes over all windows."""

TOLERANCE = 1e-5
"""Training ends when an epoch lowers the loss by less than this share of it."""

CHUNK = 512
"""Windows that are float32 at a time."""

FOLDS = 4
"""Folds of the cross-validation that the calibration uses."""


@dataclass(frozen=True)
class _Windows:
    """Normalised, centred features ``[n, variants, C] float16`` of ``n`` windows, with their labels ``[n]``.

    Both are on the device.
    """

    features: torch.Tensor
    labels: torch.Tensor

    def select(self, items: np.ndarray) -> "_Windows":
        chosen = torch.from_numpy(items).to(self.labels.device)
        return _Windows(self.features[chosen], self.labels[chosen])

    def logits(self, layer: nn.Linear) -> torch.Tensor:
        """Returns the logits ``[n, classes]`` of the windows as the tagger sees them."""
        with torch.no_grad():
            return torch.cat([layer(chunk[:, 0].float()) for chunk in self.features.split(CHUNK)])


def fit_convex(
    head: MeanHead,
    train: FeatureSource,
    val: FeatureSource,
    settings: LoopSettings,
    *,
    crops: int,
    stage: str,
    on_epoch: Callable[[Epoch], None],
) -> tuple[Fit, torch.Tensor, torch.Tensor]:
    """Trains ``head`` on all variants of the training windows at once.

    Returns the epochs, and logits ``[n, classes]`` with their labels ``[n]`` for the calibration: those of the
    validation windows, and those of the training windows from models that were trained without their group.
    ``settings.weight_decay`` is the factor of half the squared weights in the loss. Raises TrainingError when features
    are not numbers.
    """
    device = head.dense.weight.device
    mean = _mean(train, crops)
    windows = _read(train, crops, mean, device, all_variants=True)
    val_windows = _read(val, crops, mean, device, all_variants=False)
    epochs: list[Epoch] = []

    def record(layer: nn.Linear) -> None:
        number = len(epochs) + 1
        val_logits = val_windows.logits(layer)
        train_scores = loss_and_accuracy(windows.logits(layer), windows.labels)
        val_scores = loss_and_accuracy(val_logits, val_windows.labels)
        by_video = video_accuracy(val_logits.cpu(), val)
        epochs.append(Epoch(number, settings.epochs, *train_scores, *val_scores, by_video, stage=stage))
        on_epoch(epochs[-1])

    _minimise(head.dense, windows, settings, record)
    logits, labels = _held_out_logits(head.dense, windows, train.groups, settings)
    logits = torch.cat([logits, val_windows.logits(head.dense)]).cpu()
    with torch.no_grad():
        head.dense.bias.sub_(head.dense.weight @ mean.to(device))
    return Fit(tuple(epochs), len(epochs)), logits, torch.cat([labels, val_windows.labels]).cpu()


def _mean(source: FeatureSource, crops: int) -> torch.Tensor:
    """Returns the mean ``[C]`` of the normalised features of the windows as the tagger sees them.

    It is far larger than their differences. Without it the problem has the same optimum, because the bias has no
    penalty, but float32 does not get there: along the mean, a step changes the loss by less than its last digit.
    """
    items = torch.arange(len(source.targets.labels))
    sums = [
        normalised_features(source.inputs(some, None), crops).sum(dim=0, dtype=torch.double)
        for some in items.split(CHUNK)
    ]
    return (torch.stack(sums).sum(dim=0) / len(items)).float()


def _read(
    source: FeatureSource, crops: int, mean: torch.Tensor, device: torch.device, *, all_variants: bool
) -> _Windows:
    made = []
    for items in torch.arange(len(source.targets.labels)).split(CHUNK):
        variants = source.variants(items) if all_variants else source.inputs(items, None)[:, None]
        normalised = normalised_features(variants.flatten(0, 1), crops)
        made.append((normalised - mean).unflatten(0, variants.shape[:2]).half())
        if not made[-1].isfinite().all():
            raise TrainingError(
                "the backbone's features are not numbers; train with --precision fp32, or start from another model"
            )
    return _Windows(torch.cat(made).to(device), source.targets.labels.to(device))


def _minimise(
    layer: nn.Linear, windows: _Windows, settings: LoopSettings, on_epoch: Callable[[nn.Linear], None]
) -> None:
    """Moves the weights of ``layer`` from 0 to the minimum of the loss, or as far as the epochs allow."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    weights = class_weights(windows.labels, settings.class_weights, classes=layer.out_features)[windows.labels]
    shares = weights / weights.sum()
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=STEPS, max_eval=2 * STEPS, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimizer.zero_grad()
        total = settings.weight_decay / 2 * layer.weight.square().sum()
        total.backward()
        # A chunk at a time, so that only few windows are float32 at once.
        for features, labels, share in zip(
            windows.features.split(CHUNK), windows.labels.split(CHUNK), shares.split(CHUNK), strict=True
        ):
            logits = layer(features.float())
            losses = functional.cross_entropy(
                logits.flatten(0, 1),
                labels.repeat_interleave(features.shape[1]),
                reduction="none",
                label_smoothing=settings.label_smoothing,
            )
            chunk = losses.unflatten(0, features.shape[:2]).mean(dim=1) @ share
            chunk.backward()
            total = total.detach() + chunk.detach()
        return float(total)

    before = np.inf
    for _ in range(settings.epochs):
        optimizer.step(loss)
        on_epoch(layer)
        after = loss()
        if before - after < TOLERANCE * abs(after):
            break
        before = after
    optimizer.zero_grad()


def _held_out_logits(
    layer: nn.Linear, windows: _Windows, groups: np.ndarray, settings: LoopSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits of training windows from layers that were trained without their group, and their labels.

    A window is left out if its layer was trained without its class. There are none if the groups, or the windows of
    every class, are fewer than the folds.
    """
    # Takes more than a second of a core, which every process of every other training would spend, too.
    from sklearn.model_selection import StratifiedGroupKFold

    labels = windows.labels.cpu().numpy()
    logits = torch.zeros(len(labels), layer.out_features, device=windows.labels.device)
    if min(len(set(groups)), np.bincount(labels).max()) < FOLDS:
        return logits[:0], windows.labels[:0]
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=settings.seed % 2**32)
    with warnings.catch_warnings():
        # Some classes may have fewer windows than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        parts = list(folds.split(labels, labels, groups))
    is_known = np.zeros(len(labels), bool)
    for kept, held_out in parts:
        fold = nn.Linear(layer.in_features, layer.out_features, device=layer.weight.device)
        _minimise(fold, windows.select(kept), settings, lambda _: None)
        logits[torch.from_numpy(held_out)] = windows.select(held_out).logits(fold)
        is_known[held_out] = np.isin(labels[held_out], labels[kept])
    known = torch.from_numpy(is_known).to(logits.device)
    return logits[known], windows.labels[known]
