"""The training loop: seeded, with a warm-up and a cosine schedule, keeping the best epoch by validation.

It runs in one process or in several workers (see ``training.distributed``), and resumes from a checkpoint. Random
numbers depend only on the seed, the name of the loop, the epoch and the item. So a loop that was killed and resumed
gives the same result as an uninterrupted one, and two workers give the same as one with twice the batch size.
"""

import copy
import math
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tagger.errors import TrainingError
from training import distributed
from training.evaluation.metrics import average_by_video
from training.fitting.checkpoint import State, load_checkpoint, read_checkpoint, save_checkpoint
from training.fitting.epochs import Epoch, Step
from training.inputs.sources import Source

NORM_BATCHES = 16
"""Most batches over which the statistics of batch norms are measured at the end of an epoch."""

LOADER_THREADS = 4
"""Threads that prefetch batches: for a GPU, making views takes longer than training on them."""

REPORT_INTERVAL_S = 0.2
"""Seconds between two progress reports within an epoch."""

ClassWeights = Literal["balanced", "none"]


@dataclass(frozen=True)
class LoopSettings:
    """The settings of one training loop.

    ``batch_size`` is the number of windows in a step of one worker. ``pretrained_rate`` is the learning rate of
    pretrained layers as a share of ``learning_rate``: they only have to adapt, and at the full rate a small data set
    ruins them within an epoch. ``warm_up`` is the share of all steps in which the learning rate rises. Training stops
    early when the validation loss has not fallen for ``patience`` epochs; with 0 it never does. With ``class_weights``
    balanced all classes have the same weight, whatever their number of windows.
    """

    epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 1e-3
    pretrained_rate: float = 0.05
    weight_decay: float = 0.01
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
    precision: torch.dtype = torch.float32,
    checkpoint: Path | None = None,
    on_step: Callable[[Step], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_resume: Callable[[Sequence[Epoch]], None] = lambda _: None,
) -> Fit:
    """Trains the parameters of ``network`` that require gradients; leaves it with the weights of the best epoch.

    The best epoch has the lowest validation loss. With the same seed, inputs and number of threads the result is the
    same on a CPU. ``pretrained`` are the parameters that learn at ``settings.pretrained_rate``. A ``precision`` other
    than float32 is computed under autocast, float16 also with scaled gradients. The file ``checkpoint`` is written
    after each epoch. When it exists at the start, the loop resumes from it and passes its epochs to ``on_resume``.
    Raises TrainingError when no epoch has a finite loss, OutputError when the checkpoint cannot be written.
    """
    device = next(network.parameters()).device
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    pretrained_ids = {id(parameter) for parameter in pretrained}
    rates = (settings.learning_rate, settings.learning_rate * settings.pretrained_rate)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if (id(p) in pretrained_ids) is bool(i)], "lr": rate}
            for i, rate in enumerate(rates)
        ],
        weight_decay=settings.weight_decay,
    )
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    state = State()
    # Other workers may not see the file yet: a network file system shows new files late.
    found = read_checkpoint(checkpoint) if checkpoint is not None and distributed.rank() == 0 else None
    if saved := distributed.broadcast(found):
        state = load_checkpoint(saved, network, optimizer, scaler)
        on_resume(state.epochs)
    if distributed.size() > 1:
        distributed.synchronise_norms(network)
    trained = distributed.parallel(network)
    weights = _class_weights(train.targets.labels, settings.class_weights)
    windows = len(train.targets.labels)
    batch_size = settings.batch_size * distributed.size()
    steps_an_epoch = math.ceil(windows / batch_size)
    for number in range(len(state.epochs) + 1, settings.epochs + 1):
        if settings.patience and state.epochs and number - 1 - state.best >= settings.patience:
            break
        epoch_seed = f"{settings.seed}/{stage}/{number}"
        torch.manual_seed(_torch_seed(f"{epoch_seed}/{distributed.rank()}"))  # dropout
        _train_mode(network)
        order = torch.randperm(windows, generator=torch.Generator().manual_seed(_torch_seed(epoch_seed)))
        sums = torch.zeros(2, device=device)
        started = reported = time.monotonic()
        for step, (batch, own, share_inputs) in enumerate(_prefetch(order.split(batch_size), train, epoch_seed)):
            rate = _rate_factor(
                (number - 1) * steps_an_epoch + step, settings.epochs * steps_an_epoch, settings.warm_up
            )
            for group, full_rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = full_rate * rate
            labels, inputs = train.targets.labels[own].to(device), share_inputs.to(device)
            distributed.set_norm_contribution(network, batch)
            with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
                logits = trained(inputs).float()
            losses = functional.cross_entropy(
                logits, labels, reduction="none", label_smoothing=settings.label_smoothing
            )
            # The gradients are averaged over the workers. So the loss of a worker is the sum over its share, divided
            # by the weight of the whole batch and multiplied by the number of workers.
            batch_weight = weights[train.targets.labels[batch]].sum()
            loss = (losses * weights[train.targets.labels[own]].to(device)).sum() / batch_weight * distributed.size()
            if not distributed.has_share(batch):
                # The last batch has fewer items than workers. The item here belongs to another worker: do not count it.
                loss, losses = loss * 0, losses[:0]
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            correct = (logits.argmax(1) == labels)[: len(losses)]
            sums += torch.stack([losses.detach().sum(), correct.sum()])
            if time.monotonic() - reported > REPORT_INTERVAL_S:
                reported = time.monotonic()
                seen = min((step + 1) * batch_size, windows)
                own_seen = max(1, seen // distributed.size())
                loss_now, right_now = (sums / own_seen).tolist()
                on_step(Step(stage, number, settings.epochs, seen, windows, reported - started, loss_now, right_now))
        train_loss, train_accuracy = (distributed.total(sums) / windows).tolist()
        _recompute_norm_statistics(network, train, batch_size, epoch_seed, precision)
        logits = predict(network, val, batch_size, precision=precision)
        val_loss = functional.cross_entropy(logits, val.targets.labels).item()
        accuracies = _accuracies(logits, val.targets.labels, val)
        epoch = Epoch(
            number, settings.epochs, train_loss, train_accuracy, val_loss, *accuracies, rates[0] * rate, stage
        )
        state.epochs.append(epoch)
        if val_loss < state.best_loss:
            state.best, state.best_loss = number, val_loss
            state.weights = copy.deepcopy(network.state_dict())
        if checkpoint is not None and distributed.rank() == 0:
            save_checkpoint(checkpoint, state, network, optimizer, scaler)
        on_epoch(epoch)
    if state.weights is None:
        raise TrainingError(
            "the loss is not a number in any epoch; train again with a lower --learning-rate (and --restart)"
        )
    network.load_state_dict(state.weights)
    return Fit(tuple(state.epochs), state.best)


@torch.no_grad()
def predict(
    network: nn.Module, source: Source, batch_size: int, *, precision: torch.dtype = torch.float32
) -> torch.Tensor:
    """Returns the logits ``[n, classes]`` of all items of ``source``, float32 on the CPU, in every worker."""
    network.eval()
    device = next(network.parameters()).device
    everything = torch.arange(len(source.targets.labels))
    logits = []
    for batch in distributed.share_of_batch(everything).split(max(1, batch_size // distributed.size())):
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            logits.append(network(source.inputs(batch, None).to(device)).float())
    own = torch.cat(logits)[: len(distributed.share(everything))]
    return distributed.gather(own, len(everything)).cpu()


@torch.no_grad()
def _recompute_norm_statistics(
    network: nn.Module, source: Source, batch_size: int, epoch_seed: str, precision: torch.dtype
) -> None:
    """Measures the statistics of trainable batch norms again, with the present weights.

    Running averages lag behind the weights, by more than an epoch when an epoch has few steps. A small data set then
    has a perfect training accuracy and a validation accuracy at chance. This is also known as precise batch norm
    (https://arxiv.org/abs/2105.07576, section 3).
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm3d) and m.weight.requires_grad]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # A plain average over the batches that follow.
    _train_mode(network)
    device = next(network.parameters()).device
    shuffled = torch.Generator().manual_seed(_torch_seed(f"{epoch_seed}/norms"))
    items = torch.randperm(len(source.targets.labels), generator=shuffled)
    # Only whole batches, if there are any, because each batch has the same weight in the average.
    batches = min(NORM_BATCHES, max(1, len(items) // batch_size))
    for batch in items[: batches * batch_size].split(batch_size):
        distributed.set_norm_contribution(network, batch)
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            network(source.inputs(distributed.share_of_batch(batch), None).to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _prefetch(
    batches: Sequence[torch.Tensor], source: Source, epoch_seed: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yields each batch, this worker's share of it, and the inputs of the share, which threads make in advance."""

    def make(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = distributed.share_of_batch(batch)
        return own, source.inputs(own, epoch_seed)

    threads = min(LOADER_THREADS, os.cpu_count() or 1)
    waiting: deque[tuple[torch.Tensor, Future[tuple[torch.Tensor, torch.Tensor]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            waiting.append((batch, pool.submit(make, batch)))
            if len(waiting) > threads:
                done, made = waiting.popleft()
                yield done, *made.result()
        for done, made in waiting:
            yield done, *made.result()


def _train_mode(network: nn.Module) -> None:
    """Sets training mode, except for frozen batch norms: they keep their pretrained statistics."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d) and not module.weight.requires_grad:
            module.eval()


def _class_weights(labels: torch.Tensor, how: ClassWeights) -> torch.Tensor:
    """Returns a float32 weight for each class: 1, or, when balanced, such that all classes have the same total."""
    counts = labels.bincount().clamp(min=1).float()
    return len(labels) / (len(counts) * counts) if how == "balanced" else torch.ones_like(counts)


def _accuracies(logits: torch.Tensor, labels: torch.Tensor, source: Source) -> tuple[float, float]:
    by_window = (logits.argmax(1) == labels).float().mean().item()
    videos, averaged = average_by_video(logits.softmax(1).numpy(), source.targets.videos)
    first = np.searchsorted(source.targets.videos, videos)
    by_video = float((averaged.argmax(1) == labels.numpy()[first]).mean())
    return by_window, by_video


def _rate_factor(step: int, steps: int, warm_up: float) -> float:
    """Returns the share of the full learning rate at ``step``: a linear rise, then half a cosine."""
    rising = max(1, round(steps * warm_up))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _torch_seed(name: str) -> int:
    """Returns a seed for torch that is the same in every process."""
    return Random(name).getrandbits(63)
