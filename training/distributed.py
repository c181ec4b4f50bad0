"""The workers that train one network together, over ``torch.distributed``; without it there is one worker.

Each of n workers takes every n-th item of a batch, and gradients are averaged. So the result depends on the total batch
size, but not on the number of workers, apart from dropout, which is seeded for each worker.
"""

from typing import TypeVar

import torch
from torch import distributed, nn
from torch.autograd.function import FunctionCtx

T = TypeVar("T")


def rank() -> int:
    """The number of this worker, from 0."""
    return distributed.get_rank() if _is_distributed() else 0


def size() -> int:
    """The number of workers."""
    return distributed.get_world_size() if _is_distributed() else 1


def share(items: torch.Tensor) -> torch.Tensor:
    """Returns this worker's share of ``items``; it may be empty."""
    return items[rank() :: size()]


def has_share(batch: torch.Tensor) -> bool:
    """Whether this worker's share of ``batch`` has any items. It has none when there are fewer items than workers."""
    return rank() < len(batch)


def share_of_batch(batch: torch.Tensor) -> torch.Tensor:
    """Returns this worker's share of ``batch``, or the first item of the batch when the share is empty.

    All workers must do the same number of steps, because they wait for each other.
    """
    return share(batch) if has_share(batch) else batch[:1]


def total(values: torch.Tensor) -> torch.Tensor:
    """Returns the sum of ``values`` over all workers. Changes ``values`` in place when there are several."""
    if _is_distributed():
        distributed.all_reduce(values)
    return values


def gather(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the ``count`` rows of all workers in order; ``rows`` are those of this worker's ``share``."""
    if not _is_distributed():
        return rows
    padded = rows.new_zeros((-(-count // size()), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(size())]
    distributed.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten(0, 1)[:count]


def broadcast(value: T) -> T:
    """Returns the ``value`` of the first worker, in all workers. Use it where workers may see different values."""
    if not _is_distributed():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def parallel(network: nn.Module) -> nn.Module:
    """Wraps ``network`` so that its gradients are averaged over all workers."""
    return nn.parallel.DistributedDataParallel(network) if _is_distributed() else network


class _Total(torch.autograd.Function):
    """A ``total`` with a backward pass: the gradient is the sum of the gradients of all workers."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: torch.Tensor) -> torch.Tensor:
        return total(values.clone())

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> torch.Tensor:
        return total(gradients[0].contiguous().clone())


class SyncBatchNorm(nn.BatchNorm3d):
    """A batch norm with statistics over the batch of all workers.

    ``nn.SyncBatchNorm`` does this on GPUs only.
    """

    contributes = True
    """Whether the input of this worker is a part of the batch. Otherwise it is left out of the statistics."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]``, normalised."""
        if not self.training or not _is_distributed():
            return super().forward(x)
        values = x.float()
        axes = (0, 2, 3, 4)
        counted = slice(None if self.contributes else 0)
        count = total(torch.tensor(float(values[counted, 0].numel()), device=x.device))
        mean = _Total.apply(values[counted].sum(axes)) / count
        centred = values - mean[:, None, None, None]
        variance = _Total.apply(centred[counted].square().sum(axes)) / count
        self._update_running_statistics(mean.detach(), variance.detach() * count / (count - 1))
        scale = (self.weight * torch.rsqrt(variance + self.eps))[:, None, None, None]
        return (centred * scale + self.bias[:, None, None, None]).to(x.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Updates the running statistics; with a momentum of None they are plain averages."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked += 1
        weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


def synchronise_norms(network: nn.Module) -> None:
    """Replaces the batch norms of ``network`` by ones over all workers; parameters and their names do not change."""
    for parent in network.modules():
        for name, module in parent.named_children():
            if type(module) is nn.BatchNorm3d:
                shared = SyncBatchNorm(module.num_features, module.eps, module.momentum)
                shared.weight, shared.bias = module.weight, module.bias
                for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                    setattr(shared, buffer, getattr(module, buffer))
                shared.train(module.training)
                setattr(parent, name, shared)


def set_norm_contribution(network: nn.Module, batch: torch.Tensor) -> None:
    """Sets whether the next input of this worker contributes to the statistics of the norms of ``network``.

    It does not when this worker's share of ``batch`` is empty.
    """
    for module in network.modules():
        if isinstance(module, SyncBatchNorm):
            module.contributes = has_share(batch)


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
