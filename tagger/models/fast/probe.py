"""Tests undocumented operators before use, with plain layers as the fall-back.

Such an operator may be missing in the next PyTorch, may take other arguments, or may compute something else for some
shape, precision or memory format. So the first call with each signature (devices, precisions, shapes and strides of all
tensors, and all other arguments) computes both versions on noise and compares the results.

The test uses noise instead of the tensors of the call, because a black clip would hide most errors, and the choice must
not depend on which video came first. The noise has the full size, because libraries choose different kernels for
different sizes. So the first window takes two additional passes, one for each version: with the built-in model 0.10 to
0.14 s in bfloat16, and 0.14 to 0.27 s in float32, on one core or two.
"""

import math
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

import torch

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 2e-2}
"""Maximum difference, as a share of the largest result. It allows a few rounding errors, or those of a long sum."""

TF32_TOLERANCE = TOLERANCES[torch.float16]
"""The same for float32 on a GPU, where convolutions may use TF32, which has as many digits as float16."""

NOISE_LENGTH = 65_521
"""Number of different random numbers, which are repeated. It is prime, so that channels and pixels get different
numbers."""

NOISE_AMPLITUDE = 4.0
"""Noise is from -4 to 4. Then a layer has results below 0 and above 6, where ReLU6 changes them."""


def is_out_of_memory(error: Exception) -> bool:
    """Checks whether an error of PyTorch means out of memory. The libraries below PyTorch have their own messages."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error) for words in ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")
    )


class Probed:
    """An operator with two versions: ``fast``, which is used if a test shows that it works, and ``plain``.

    Both take the same arguments: tensors and hashable values. If the second argument is a tensor, it has the weights of
    a layer, with one row or kernel for each output.
    """

    def __init__(self, fast: Callable[..., torch.Tensor], plain: Callable[..., torch.Tensor]):
        self.fast, self.plain = fast, plain
        self.works: dict[Hashable, bool] = {}
        """Whether ``fast`` works, by signature."""

    def __call__(self, *arguments: Any) -> torch.Tensor:
        """Returns the result of ``plain``, computed with ``fast`` if that works."""
        signature = tuple(_signature(argument) for argument in arguments)
        works = self.works.get(signature)
        if works is None:
            works = self.works[signature] = self._probe(arguments)
        return (self.fast if works else self.plain)(*arguments)

    @torch.no_grad()
    def _probe(self, arguments: tuple[Any, ...]) -> bool:
        noise = [_noise(argument) if isinstance(argument, torch.Tensor) else argument for argument in arguments]
        if len(noise) > 1 and isinstance(noise[1], torch.Tensor):
            # Scales the weights, so that results have the size of bias and residual, for any number of products.
            noise[1] /= math.sqrt(noise[1][0].numel())
        expected = self.plain(*noise)
        try:
            found = self.fast(*noise)
            if found.shape != expected.shape or found.dtype != expected.dtype or found.device != expected.device:
                return False
            is_tf32 = expected.is_cuda and expected.dtype == torch.float32
            tolerance = TF32_TOLERANCE if is_tf32 else TOLERANCES[expected.dtype]
            # In place, and with amax because max copies a channels-last tensor. The comparison is false for NaN.
            return bool(found.sub_(expected).abs_().amax() <= tolerance * expected.abs_().amax())
        except Exception as error:  # PyTorch, its libraries and a compiler may raise anything.
            if is_out_of_memory(error):
                raise  # It may work with fewer clips, or later.
            return False


def _signature(argument: Any) -> Hashable:
    if isinstance(argument, torch.Tensor):
        return argument.device, argument.dtype, argument.shape, argument.stride()
    return argument


def _noise(tensor: torch.Tensor) -> torch.Tensor:
    """Returns noise with the shape, strides, precision and device of ``tensor``. It is the same every time."""
    extent = 1 + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.stride(), strict=True))
    numbers = _noise_values(tensor.device, tensor.dtype)
    return numbers.repeat(max(1, -(-extent // NOISE_LENGTH)))[: max(0, extent)].as_strided(
        tensor.shape, tensor.stride()
    )


@cache
def _noise_values(device: torch.device, precision: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(NOISE_LENGTH, generator=generator) * 2 * NOISE_AMPLITUDE - NOISE_AMPLITUDE).to(device, precision)
