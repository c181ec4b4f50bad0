"""The training loop: seeded, with a warm-up and a cosine schedule, keeping the best epoch by validation."""

import copy
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from torch import nn

from training.metrics import average_by_video
from training.sources import Source

NORM_BATCHES = 16
"""Batches over which the statistics of batch norms are measured at the end of an epoch."""


@dataclass(frozen=True)
class LoopSettings:
    """The settings of one training loop.

    ``pretrained_rate`` is the learning rate of pretrained layers as a share of ``learning_rate``: they only have to
    adapt, and at the full rate a small data set ruins them within an epoch. ``warm_up`` is the share of all steps in
    which the learning rate rises.
    """

    epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 1e-3
    pretrained_rate: float = 0.05
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    warm_up: float = 0.05
    clip_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """What epoch ``number`` of ``of`` came to.

    Losses are cross-entropies per window; validation accuracy is by window and by video.
    """

    number: int
    of: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_video_accuracy: float


@dataclass(frozen=True)
class Fit:
    """A finished loop: every epoch, and the number of the best one, whose weights the network has."""

    epochs: tuple[Epoch, ...]
    best: int


def fit(
    network: nn.Module,
    train: Source,
    val: Source,
    settings: LoopSettings,
    *,
    pretrained: Collection[nn.Parameter] = (),
    precision: torch.dtype = torch.float32,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Fit:
    """Trains the parameters of ``network`` that require gradients; leaves it with the weights of the best epoch.

    The best epoch has the lowest validation loss. With the same seed, inputs and number of threads the result is the
    same on a CPU. ``pretrained`` are the parameters that learn at their own rate. ``precision`` bfloat16 computes under
    autocast.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)  # dropout
    device = next(network.parameters()).device
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    slow = {id(parameter) for parameter in pretrained}
    rates = {False: settings.learning_rate, True: settings.learning_rate * settings.pretrained_rate}
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in parameters if (id(p) in slow) is is_slow], "lr": rates[is_slow]} for is_slow in rates],
        weight_decay=settings.weight_decay,
    )
    windows = len(train.targets.labels)
    steps = settings.epochs * math.ceil(windows / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings.warm_up))
    loss_of = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    epochs: list[Epoch] = []
    best_loss, best = math.inf, 0
    weights: dict[str, torch.Tensor] = {}
    for number in range(1, settings.epochs + 1):
        _train_mode(network)
        loss_sum, right = 0.0, 0
        batches = torch.randperm(windows, generator=generator).split(settings.batch_size)
        for batch, drawn in _ahead(batches, lambda batch: train.inputs(batch, generator)):
            labels, inputs = train.targets.labels[batch].to(device), drawn.to(device)
            with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
                logits = network(inputs).float()
            loss = loss_of(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            optimizer.step()
            schedule.step()
            loss_sum += loss.item() * len(batch)
            right += int((logits.argmax(1) == labels).sum())
        _settle_norms(network, train, settings.batch_size, generator, precision)
        logits = predict(network, val, settings.batch_size, precision=precision)
        val_loss = nn.functional.cross_entropy(logits, val.targets.labels).item()
        epoch = Epoch(
            number,
            settings.epochs,
            loss_sum / windows,
            right / windows,
            val_loss,
            *_accuracies(logits, val.targets.labels, val),
        )
        epochs.append(epoch)
        on_epoch(epoch)
        if val_loss < best_loss:
            best_loss, best, weights = val_loss, number, copy.deepcopy(network.state_dict())
    if not best:
        raise FloatingPointError("the loss is not a number in every epoch; lower the learning rate")
    network.load_state_dict(weights)
    return Fit(tuple(epochs), best)


@torch.no_grad()
def predict(
    network: nn.Module, source: Source, batch_size: int, *, precision: torch.dtype = torch.float32
) -> torch.Tensor:
    """Logits ``[n, classes]``, float32 on the CPU, of every window of ``source``."""
    network.eval()
    device = next(network.parameters()).device
    logits = []
    for batch in torch.arange(len(source.targets.labels)).split(batch_size):
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            logits.append(network(source.inputs(batch, None).to(device)).float().cpu())
    return torch.cat(logits)


@torch.no_grad()
def _settle_norms(
    network: nn.Module, source: Source, batch_size: int, generator: torch.Generator, precision: torch.dtype
) -> None:
    """Measures the statistics of trainable batch norms anew, with the weights as they are now.

    Their running averages lag behind the weights, by more than an epoch when an epoch has few steps: a small data set
    then trains to perfection and validates at chance. Also known as precise batch norm
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
    windows = torch.randperm(len(source.targets.labels), generator=generator)[: NORM_BATCHES * batch_size]
    for batch in windows.split(batch_size):
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            network(source.inputs(batch, None).to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _ahead(
    batches: Sequence[torch.Tensor], make: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each batch with what ``make`` makes of it, made in order by one thread while the batch before is in use."""
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(make, batches[0])
        for batch, following in zip_longest(batches, batches[1:]):
            inputs = made.result()
            if following is not None:
                made = pool.submit(make, following)
            yield batch, inputs


def _train_mode(network: nn.Module) -> None:
    """Training mode, except for frozen batch norms: they keep the statistics that they were pretrained with."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d) and not module.weight.requires_grad:
            module.eval()


def _accuracies(logits: torch.Tensor, labels: torch.Tensor, source: Source) -> tuple[float, float]:
    by_window = (logits.argmax(1) == labels).float().mean().item()
    videos, averaged = average_by_video(logits.softmax(1).numpy(), source.targets.videos)
    first = np.searchsorted(source.targets.videos, videos)
    by_video = float((averaged.argmax(1) == labels.numpy()[first]).mean())
    return by_window, by_video


def _rate(step: int, steps: int, warm_up: float) -> float:
    """Share of the full learning rate at ``step``: a straight rise, then half a cosine."""
    rising = max(1, round(steps * warm_up))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
