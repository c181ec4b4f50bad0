"""Undocumented operators are used only for what they were tried on, with the plain layers as the fall-back.

Such an operator may be missing in the next PyTorch, may take other arguments, or may compute something else for some
shape, precision or memory format. So the first call with each signature (devices, precisions, shapes and strides of all
tensors, and all other arguments) computes noise in both ways and compares.

Noise, not the tensors of the call: a black clip would hide most errors, and which way is taken must not depend on which
video came first. Tensors of the full size, not smaller ones: libraries choose another kernel for another size. That
costs the first window two passes more, one in each way: with the built-in model 0.10 to 0.14 s in bfloat16, and 0.14 to
0.27 s in float32, on one core or two.
"""

import math
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

import torch

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 2e-2}
"""Largest difference, as a share of the largest result: a few roundings in this precision, or a longer sum in it."""

TF32_TOLERANCE = TOLERANCES[torch.float16]
"""On a GPU convolutions of float32 may be computed in TF32, which has as many digits as float16."""

NOISE = 65_521
"""Random numbers that are repeated; a prime, so that no two channels or pixels get the same ones."""

AMPLITUDE = 4.0
"""Noise is from -4 to 4. Then results of a layer lie on both sides of 0 and of 6, between which ReLU6 leaves them."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of PyTorch is one of memory; the libraries under it have their own words for that."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error) for words in ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")
    )


class Probed:
    """Computes what ``plain`` does: by ``fast`` where a probe found that it works, otherwise by ``plain``.

    Both take the same arguments: tensors, and others that are hashable. The second one, if it is a tensor, holds the
    weights of a layer, one row or kernel for each output.
    """

    def __init__(self, fast: Callable[..., torch.Tensor], plain: Callable[..., torch.Tensor]):
        self.fast, self.plain = fast, plain
        self.works: dict[Hashable, bool] = {}
        """Whether ``fast`` works, by signature."""

    def __call__(self, *arguments: Any) -> torch.Tensor:
        """What ``plain`` makes of ``arguments``."""
        signature = tuple(_signature(argument) for argument in arguments)
        works = self.works.get(signature)
        if works is None:
            works = self.works[signature] = self._probe(arguments)
        return (self.fast if works else self.plain)(*arguments)

    @torch.no_grad()
    def _probe(self, arguments: tuple[Any, ...]) -> bool:
        noise = [_noise(argument) if isinstance(argument, torch.Tensor) else argument for argument in arguments]
        if len(noise) > 1 and isinstance(noise[1], torch.Tensor):
            # So that results are as large as what is added to them, however many products they are the sum of.
            noise[1] /= math.sqrt(noise[1][0].numel())
        expected = self.plain(*noise)
        try:
            found = self.fast(*noise)
            if found.shape != expected.shape or found.dtype != expected.dtype or found.device != expected.device:
                return False
            is_tf32 = expected.is_cuda and expected.dtype == torch.float32
            tolerance = TF32_TOLERANCE if is_tf32 else TOLERANCES[expected.dtype]
            # In place and by amax, for max copies a tensor whose channels are last. It is not true of NaN either.
            return bool(found.sub_(expected).abs_().amax() <= tolerance * expected.abs_().amax())
        except Exception as error:  # Whatever PyTorch, its libraries and a compiler may raise.
            if is_out_of_memory(error):
                raise  # With fewer clips, or another time, it may work.
            return False


def _signature(argument: Any) -> Hashable:
    if isinstance(argument, torch.Tensor):
        return argument.device, argument.dtype, argument.shape, argument.stride()
    return argument


def _noise(tensor: torch.Tensor) -> torch.Tensor:
    """Random numbers of the shape, strides, precision and device of ``tensor``, the same every time."""
    extent = 1 + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.stride(), strict=True))
    numbers = _numbers(tensor.device, tensor.dtype)
    return numbers.repeat(max(1, -(-extent // NOISE)))[: max(0, extent)].as_strided(tensor.shape, tensor.stride())


@cache
def _numbers(device: torch.device, precision: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(NOISE, generator=generator) * 2 * AMPLITUDE - AMPLITUDE).to(device, precision)
