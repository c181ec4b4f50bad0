"""Passes of a network over a source: its predictions, its batch-norm statistics, and batches that are prefetched."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random

import torch
from torch import nn

from tagger.system.limits import usable_cores
from training import distributed
from training.inputs.sources import Source

NORM_BATCHES = 16
"""Maximum number of batches over which the statistics of batch norms are measured at the end of an epoch."""

LOADER_THREADS = 4
"""Threads that prefetch batches: for a GPU, making views takes longer than training on them."""


@torch.no_grad()
def predict(
    network: nn.Module,
    source: Source,
    batch_size: int,
    *,
    items: torch.Tensor | None = None,
    precision: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Returns the logits ``[n, classes]`` of ``items`` ``[n]``, float32 on the CPU, in every worker.

    By default these are all items of ``source``. Nothing is random: there are no random views and no dropout.
    """
    network.eval()
    device = next(network.parameters()).device
    if items is None:
        items = torch.arange(len(source.targets.labels))
    logits = []
    for batch in distributed.share_of_batch(items).split(max(1, batch_size // distributed.size())):
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            logits.append(network(source.inputs(batch, None).to(device)).float())
    own = torch.cat(logits)[: len(distributed.share(items))]
    return distributed.gather(own, len(items)).cpu()


@torch.no_grad()
def recompute_norm_statistics(
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
    train_mode(network)
    device = next(network.parameters()).device
    shuffled = torch.Generator().manual_seed(torch_seed(f"{epoch_seed}/norms"))
    items = torch.randperm(len(source.targets.labels), generator=shuffled)
    # Only whole batches, if there are any, because each batch has the same weight in the average.
    batches = min(NORM_BATCHES, max(1, len(items) // batch_size))
    for batch in items[: batches * batch_size].split(batch_size):
        distributed.set_norm_contribution(network, batch)
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            network(source.inputs(distributed.share_of_batch(batch), None).to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def prefetch(
    batches: Sequence[torch.Tensor], source: Source, epoch_seed: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yields each batch, this worker's share of it, and the inputs of the share, which threads make in advance."""

    def make(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = distributed.share_of_batch(batch)
        return own, source.inputs(own, epoch_seed)

    threads = min(LOADER_THREADS, usable_cores())
    waiting: deque[tuple[torch.Tensor, Future[tuple[torch.Tensor, torch.Tensor]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            waiting.append((batch, pool.submit(make, batch)))
            if len(waiting) > threads:
                done, made = waiting.popleft()
                yield done, *made.result()
        for done, made in waiting:
            yield done, *made.result()


def train_mode(network: nn.Module) -> None:
    """Sets training mode, except for frozen batch norms: they keep their pretrained statistics."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d) and not module.weight.requires_grad:
            module.eval()


def torch_seed(name: str) -> int:
    """Returns a seed for torch that is the same in every process."""
    return Random(name).getrandbits(63)
