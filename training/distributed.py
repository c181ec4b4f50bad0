"""The workers that train one network together, as ``torch.distributed`` knows them; without it there is one.

Each takes every n-th item of a batch, and gradients are averaged, so that what is learnt does not depend on how many
workers there are.
"""

from typing import TypeVar

import torch
from torch import distributed, nn
from torch.autograd.function import FunctionCtx

T = TypeVar("T")


def rank() -> int:
    """The number of this worker, from 0."""
    return distributed.get_rank() if _is_team() else 0


def size() -> int:
    """How many workers there are."""
    return distributed.get_world_size() if _is_team() else 1


def share(items: torch.Tensor) -> torch.Tensor:
    """The part of ``items`` that is this worker's; it may be empty."""
    return items[rank() :: size()]


def has_part(batch: torch.Tensor) -> bool:
    """Whether there is anything in ``batch`` for this worker; in a batch too small for all there is not."""
    return rank() < len(batch)


def share_of_batch(batch: torch.Tensor) -> torch.Tensor:
    """The part of ``batch`` that is this worker's, or its first item where there are too few for all.

    All workers must do the same number of steps: they wait for each other.
    """
    return share(batch) if has_part(batch) else batch[:1]


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum of ``values`` over all workers."""
    if _is_team():
        distributed.all_reduce(values)
    return values


def together(rows: torch.Tensor, count: int) -> torch.Tensor:
    """The ``count`` rows of all workers in order, each of whom gives those of its ``share``."""
    if not _is_team():
        return rows
    padded = rows.new_zeros((-(-count // size()), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(size())]
    distributed.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten(0, 1)[:count]


def from_first(value: T) -> T:
    """The ``value`` of the first worker, in all of them: what they must agree on, though each may see another."""
    if not _is_team():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def parallel(network: nn.Module) -> nn.Module:
    """``network``, which averages its gradients over all workers."""
    return nn.parallel.DistributedDataParallel(network) if _is_team() else network


class _Total(torch.autograd.Function):
    """``total``, through which gradients flow back: what one worker adds, all of them see."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: torch.Tensor) -> torch.Tensor:
        return total(values.clone())

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> torch.Tensor:
        return total(gradients[0].contiguous().clone())


class TeamNorm(nn.BatchNorm3d):
    """A batch norm whose batch is that of all workers.

    ``nn.SyncBatchNorm`` does this on GPUs only.
    """

    counts = True
    """Whether what this worker sees is a part of the batch, or has nothing to say in its statistics."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]``, normalised."""
        if not self.training or not _is_team():
            return super().forward(x)
        values = x.float()
        axes = (0, 2, 3, 4)
        counted = slice(None if self.counts else 0)
        count = total(torch.tensor(float(values[counted, 0].numel()), device=x.device))
        mean = _Total.apply(values[counted].sum(axes)) / count
        centred = values - mean[:, None, None, None]
        variance = _Total.apply(centred[counted].square().sum(axes)) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = (self.weight * torch.rsqrt(variance + self.eps))[:, None, None, None]
        return (centred * scale + self.bias[:, None, None, None]).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Moves the running statistics; without a momentum they are plain averages."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked += 1
        weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


def share_norms(network: nn.Module) -> None:
    """Turns the batch norms of ``network`` into ones over all workers; parameters and their names stay."""
    for parent in network.modules():
        for name, module in parent.named_children():
            if type(module) is nn.BatchNorm3d:
                shared = TeamNorm(module.num_features, module.eps, module.momentum)
                shared.weight, shared.bias = module.weight, module.bias
                for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                    setattr(shared, buffer, getattr(module, buffer))
                shared.train(module.training)
                setattr(parent, name, shared)


def count_in_norms(network: nn.Module, batch: torch.Tensor) -> None:
    """Says to the norms of ``network`` whether what this worker is going to see is its part of ``batch``."""
    for module in network.modules():
        if isinstance(module, TeamNorm):
            module.counts = has_part(batch)


def _is_team() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
