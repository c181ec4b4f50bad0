"""The training loop: seeded, with a warm-up and a cosine schedule, keeping the best epoch by validation.

It runs in one process or in several workers (see ``training.distributed``), and resumes from a checkpoint. Apart from
dropout, which is seeded for each worker, random numbers depend only on the seed, the name of the loop, the epoch and
the item. So a loop that was killed and resumed gives the same result as an uninterrupted one. Apart from dropout, two
workers give the same result as one with twice the batch size.
"""

import copy
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from tagger.errors import TrainingError
from training import distributed
from training.evaluation.metrics import average_by_video
from training.fitting.checkpoint import State, load_checkpoint, read_checkpoint, save_checkpoint
from training.fitting.epochs import Epoch, Step
from training.fitting.optimizer import make_optimizer, moving_average, trainable_parameters
from training.fitting.passes import predict, prefetch, recompute_norm_statistics, torch_seed, train_mode
from training.inputs.sources import Source

REPORT_INTERVAL_S = 0.2
"""Seconds between two progress reports within an epoch."""

MIN_MEASURED = 64
"""Minimum number of training items on which loss and accuracy are measured, if there are so many."""

ClassWeights = Literal["balanced", "none"]

OptimizerName = Literal["adamw", "lbfgs"]


@dataclass(frozen=True)
class LoopSettings:
    """The settings of one training loop.

    ``batch_size`` is the number of windows in a step of one worker. ``pretrained_rate`` is the learning rate of
    pretrained layers as a share of ``learning_rate``: they only have to adapt, and at the full rate a small data set
    ruins them within an epoch. ``warm_up`` is the share of all steps in which the learning rate rises. Training stops
    early when the validation loss has not fallen for ``patience`` epochs; with 0 it never does. With ``class_weights``
    balanced all classes have the same weight, whatever their number of windows.

    With ``decay_to_start`` the weights of a pretrained backbone decay towards those that they start from, not to 0.
    With ``ema`` the result of an epoch is the exponential moving average of the weights with this decay per step.

    The ``optimizer`` ``lbfgs`` is for the head ``mean`` on a frozen backbone (see ``training.fitting.convex``). Of
    these settings it uses ``epochs``, ``weight_decay``, ``label_smoothing``, ``class_weights`` and ``seed``.
    """

    epochs: int = 30
    optimizer: OptimizerName = "adamw"
    batch_size: int = 16
    learning_rate: float = 1e-3
    pretrained_rate: float = 0.05
    weight_decay: float = 0.01
    decay_to_start: bool = False
    ema: float | None = None
    label_smoothing: float = 0.1
    warm_up: float = 0.05
    clip_norm: float = 1.0
    patience: int = 10
    class_weights: ClassWeights = "balanced"
    seed: int = 0


@dataclass(frozen=True)
class Fit:
    """A finished loop: all epochs, and the number of the best one, whose weights the network now has."""

    epochs: tuple[Epoch, ...]
    best: int


def fit(
    network: nn.Module,
    train: Source,
    val: Source,
    settings: LoopSettings,
    *,
    stage: str = "training",
    pretrained: Collection[nn.Parameter] = (),
    backbone: Collection[nn.Parameter] = (),
    precision: torch.dtype = torch.float32,
    checkpoint: Path | None = None,
    on_step: Callable[[Step], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_resumed_epochs: Callable[[Sequence[Epoch]], None] = lambda _: None,
) -> Fit:
    """Trains the parameters of ``network`` that require gradients; leaves it with the weights of the best epoch.

    The best epoch has the lowest validation loss. With the same seed, inputs and number of threads the result is the
    same on a CPU. ``pretrained`` are the parameters that learn at ``settings.pretrained_rate``, and ``backbone`` those
    that ``settings.decay_to_start`` is for. A ``precision`` other than float32 is computed under autocast, float16 also
    with scaled gradients. The file ``checkpoint`` is written after each epoch. When it exists at the start, the loop
    resumes from it and passes its epochs to ``on_resumed_epochs``. Raises TrainingError when no epoch has a finite
    loss, OutputError when the checkpoint cannot be written, or is damaged.
    """
    device = next(network.parameters()).device
    if distributed.size() > 1:
        distributed.synchronise_norms(network)
    optimizer = make_optimizer(
        network,
        rate=settings.learning_rate,
        decay=settings.weight_decay,
        pretrained=pretrained,
        pretrained_rate=settings.learning_rate * settings.pretrained_rate,
        returning=backbone if settings.decay_to_start else (),
    )
    averaged = None if settings.ema is None else moving_average(network, settings.ema)
    result = network if averaged is None else averaged.module
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    state = State()
    # Other workers may not see the file yet: a network file system shows new files late.
    found = read_checkpoint(checkpoint) if checkpoint is not None and distributed.rank() == 0 else None
    if saved := distributed.broadcast(found):
        state = load_checkpoint(checkpoint, saved, network, optimizer, scaler, averaged)
        on_resumed_epochs(state.epochs)
    trainer = _Trainer(
        network, distributed.parallel(network), averaged, optimizer, scaler, train, settings, stage, precision, on_step
    )
    train_items = measured(train, len(val.targets.labels), f"{settings.seed}/{stage}/measured")
    for number in range(len(state.epochs) + 1, settings.epochs + 1):
        if settings.patience and state.epochs and number - 1 - state.best >= settings.patience:
            break
        learning_rate = trainer.train_epoch(number)
        recompute_norm_statistics(result, train, trainer.batch_size, trainer.epoch_seed(number), precision)
        train_logits = predict(result, train, trainer.batch_size, items=train_items, precision=precision)
        val_logits = predict(result, val, trainer.batch_size, precision=precision)
        val_loss, val_accuracy = loss_and_accuracy(val_logits, val.targets.labels)
        epoch = Epoch(
            number,
            settings.epochs,
            *loss_and_accuracy(train_logits, train.targets.labels[train_items]),
            val_loss,
            val_accuracy,
            video_accuracy(val_logits, val),
            learning_rate,
            stage,
        )
        state.epochs.append(epoch)
        if val_loss < state.best_loss:
            state.best, state.best_loss = number, val_loss
            state.weights = copy.deepcopy(result.state_dict())
        if checkpoint is not None and distributed.rank() == 0:
            save_checkpoint(checkpoint, state, network, optimizer, scaler, averaged)
        on_epoch(epoch)
    if state.weights is None:
        raise TrainingError(
            "the loss is not a number in any epoch; train again with a lower --learning-rate (and --restart)"
        )
    network.load_state_dict(state.weights)
    return Fit(tuple(state.epochs), state.best)


def measured(train: Source, val_items: int, seed: str) -> torch.Tensor:
    """Draws the training items on which the loss and the accuracy of an epoch are measured, the same in every epoch.

    There are as many as ``val_items``, the number of validation windows, but at least ``MIN_MEASURED``. So measuring
    takes about as long as validation.
    """
    drawn = torch.randperm(len(train.targets.labels), generator=torch.Generator().manual_seed(torch_seed(seed)))
    return drawn[: max(val_items, MIN_MEASURED)].sort().values


@dataclass(frozen=True)
class _Trainer:
    """Trains ``network``, one epoch at a time. ``parallel_network`` is the same network with averaged gradients.

    ``averaged`` is the moving average of its weights, if there is one.
    """

    network: nn.Module
    parallel_network: nn.Module
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    source: Source
    settings: LoopSettings
    stage: str
    precision: torch.dtype
    on_step: Callable[[Step], None]

    @property
    def batch_size(self) -> int:
        """The number of items in a batch of all workers."""
        return self.settings.batch_size * distributed.size()

    def epoch_seed(self, number: int) -> str:
        """Returns the seed of epoch ``number``."""
        return f"{self.settings.seed}/{self.stage}/{number}"

    def train_epoch(self, number: int) -> float:
        """Trains for epoch ``number``. Returns the learning rate of the last step."""
        labels, epochs = self.source.targets.labels, self.settings.epochs
        windows, device = len(labels), next(self.network.parameters()).device
        steps_an_epoch = math.ceil(windows / self.batch_size)
        weights = class_weights(labels, self.settings.class_weights)
        epoch_seed = self.epoch_seed(number)
        torch.manual_seed(torch_seed(f"{epoch_seed}/{distributed.rank()}"))  # dropout
        train_mode(self.network)
        order = torch.randperm(windows, generator=torch.Generator().manual_seed(torch_seed(epoch_seed)))
        sums = torch.zeros(2, device=device)
        started = reported = time.monotonic()
        batches = prefetch(order.split(self.batch_size), self.source, epoch_seed)
        for step, (batch, own, inputs) in enumerate(batches):
            rate = _rate_factor((number - 1) * steps_an_epoch + step, epochs * steps_an_epoch, self.settings.warm_up)
            for group in self.optimizer.param_groups:
                group["lr"] = group["full_rate"] * rate
            sums += self._train_step(batch, own, inputs.to(device), weights)
            if time.monotonic() - reported > REPORT_INTERVAL_S:
                reported = time.monotonic()
                seen = min((step + 1) * self.batch_size, windows)
                own_seen = max(1, seen // distributed.size())
                loss_now, right_now = (sums / own_seen).tolist()
                self.on_step(Step(self.stage, number, epochs, seen, windows, reported - started, loss_now, right_now))
        return self.settings.learning_rate * rate

    def _train_step(
        self, batch: torch.Tensor, own: torch.Tensor, inputs: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Trains on ``own``, the share of ``batch`` of this worker.

        Returns ``[2]``: the sum of the cross-entropies of its items, without label smoothing, and the number of items
        that were classified correctly.
        """
        labels = self.source.targets.labels[own].to(inputs.device)
        distributed.set_norm_contribution(self.network, batch)
        with torch.autocast(inputs.device.type, dtype=self.precision, enabled=self.precision != torch.float32):
            logits = self.parallel_network(inputs).float()
        losses = functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.settings.label_smoothing
        )
        loss = self._loss(losses, batch, own, weights)
        if not distributed.has_share(batch):
            # The last batch has fewer items than workers. The item here belongs to another worker: do not count it.
            loss, labels = loss * 0, labels[:0]
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(trainable_parameters(self.network), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)
        own_logits = logits.detach()[: len(labels)]
        plain_loss = functional.cross_entropy(own_logits, labels, reduction="sum")
        return torch.stack([plain_loss, (own_logits.argmax(1) == labels).sum()])

    def _loss(
        self, losses: torch.Tensor, batch: torch.Tensor, own: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Returns the loss of this worker; ``losses`` are those of the items ``own``, its share of ``batch``."""
        labels = self.source.targets.labels
        # The gradients are averaged over the workers. So the loss of a worker is the sum over its share, divided by the
        # weight of the whole batch and multiplied by the number of workers.
        batch_weight = weights[labels[batch]].sum()
        return (losses * weights[labels[own]].to(losses.device)).sum() / batch_weight * distributed.size()


def class_weights(labels: torch.Tensor, how: ClassWeights, classes: int = 0) -> torch.Tensor:
    """Returns a float32 weight for each class: 1, or, when balanced, such that all classes have the same total.

    There are weights for at least ``classes`` classes.
    """
    counts = labels.bincount(minlength=classes).clamp(min=1).float()
    return len(labels) / (len(counts) * counts) if how == "balanced" else torch.ones_like(counts)


def loss_and_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Returns the cross-entropy and the accuracy by window."""
    return functional.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def video_accuracy(logits: torch.Tensor, source: Source) -> float:
    """Returns the accuracy by video of the logits of all windows of ``source``, ``[n, classes]`` on the CPU."""
    videos, averaged = average_by_video(logits.softmax(1).numpy(), source.targets.videos)
    first = np.searchsorted(source.targets.videos, videos)
    return float((averaged.argmax(1) == source.targets.labels.numpy()[first]).mean())


def _rate_factor(step: int, steps: int, warm_up: float) -> float:
    """Returns the share of the full learning rate at ``step``: a linear rise, then half a cosine."""
    rising = max(1, round(steps * warm_up))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
