"""3D layers computed with 2D kernels and matrix products. The results are the same, and a GPU computes them faster.

In ``channels_last_3d`` a clip ``[n, C, T, H, W]`` is stored as n·T·H·W rows of C values. With other strides, and
without a copy, the same memory is n·T pictures of H×W, or n pictures of T×(H·W). So a 1×k×k kernel is a 2D kernel on
the first kind of picture, and a k×1×1 kernel is a 2D kernel on the second kind. GPU libraries have faster kernels for
two dimensions than for three. ``python -m tests.benchmarks.gpu models`` measures both ways.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from tagger.models.fast.operators import conv2d_relu, linear_relu
from tagger.models.fast.probe import Probed

FEW_CHANNELS = 4
"""Maximum number of input channels for a stacked convolution. With so few channels most of a tensor core would be idle,
because its rows have at least 8 values."""

CHANNEL_MULTIPLE = 8
"""Values in a row of a tensor core's matrix in 16 bits. Channels are padded with zeros to a multiple of this number."""


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    groups: int = 1,
    activation: nn.Module | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """``activation(conv3d(x) + residual)`` of ``[n, C, T, H, W]``, channels last, in the precision of ``weight``."""
    kernel = weight.shape[2:]
    is_product = kernel.numel() == 1 and set(stride) == {1} and not any(padding) and groups == 1 and residual is None
    # For float32 products PyTorch does not use TF32 by default, for convolutions it does.
    if is_product and weight.dtype != torch.float32:
        return _multiply(x, weight.flatten(1), bias, activation)
    if kernel[0] == 1 and stride[0] == 1 and padding[0] == 0:
        n, time = x.shape[0], x.shape[2]
        pictures = None if residual is None else _as_pictures(residual)
        y = _convolve2d(_as_pictures(x), weight[:, :, 0], bias, stride[1:], padding[1:], groups, activation, pictures)
        return y.unflatten(0, (n, time)).transpose(1, 2)
    if kernel[1:].numel() == 1 and tuple(stride[1:]) == (1, 1) and not any(padding[1:]):
        columns = None if residual is None else residual.flatten(3)
        y = _convolve2d(
            x.flatten(3), weight[..., 0], bias, (stride[0], 1), (padding[0], 0), groups, activation, columns
        )
        return y.unflatten(3, x.shape[3:])
    return add_and_activate(functional.conv3d(x, weight, bias, stride, padding, 1, groups), activation, residual)


def max_pool(x: torch.Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> torch.Tensor:
    """Computes ``max_pool3d`` of ``[n, C, T, H, W]``, channels last."""
    if kernel[0] == stride[0] == 1 and padding[0] == 0:
        pictures = _as_pictures(x)
        pool = max_pool2d if x.is_cuda and _can_pool(pictures) else functional.max_pool2d
        y = pool(pictures, tuple(kernel[1:]), tuple(stride[1:]), tuple(padding[1:]))
        return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
    if kernel[1:] == stride[1:] == [1, 1] and not any(padding) and x.shape[2] >= kernel[0]:
        end = x.shape[2] - kernel[0] + 1
        return reduce(torch.maximum, [x[:, :, first : end + first : stride[0]] for first in range(kernel[0])])
    return functional.max_pool3d(x, kernel, stride, padding)


def average_pool(x: torch.Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> torch.Tensor:
    """Computes ``avg_pool3d`` of ``[n, C, T, H, W]``. It is faster if each average covers whole frames."""
    if list(x.shape[3:]) != kernel[1:] or stride[0] != 1 or any(padding):
        return functional.avg_pool3d(x, kernel, stride, padding)
    return x.mean(dim=(3, 4), keepdim=True).unfold(2, kernel[0], 1).mean(dim=-1)


class Stack(NamedTuple):
    """The weights of a convolution of few channels, rewritten as a 2D convolution of many channels (see ``stack``).

    ``weight`` is ``[outputs, many, kh, kw]``. One pixel of the 2D input holds a block of ``stride`` (y, x) pixels of
    ``frames`` frames. The 2D convolution has stride 1. ``before`` is the number of padding pixels before the first
    pixel (y, x).
    """

    weight: torch.Tensor
    frames: int
    stride: tuple[int, int]
    before: tuple[int, int]


def stack(weight: torch.Tensor, stride: tuple[int, int], before: tuple[int, int]) -> Stack:
    """Makes a ``Stack`` from the weights ``[outputs, C, kt, kh, kw]`` of a convolution that pads ``before`` (y, x).

    The frames of the kernel and the pixels of a stride become channels. For pixels this is known as space-to-depth.
    ``stride`` is in space (y, x).
    """
    shifts, pads = [], []
    for side, pad, step in zip(weight.shape[3:], before, stride, strict=True):
        # The kernel is padded with zeros, so that it begins and ends at a block boundary.
        shifts.append(-pad % step)
        pads.append((shifts[-1], -(side + shifts[-1]) % step))
    whole = functional.pad(weight, (*pads[1], *pads[0]))
    # [outputs, C, kt, kh, sy, kw, sx] to [outputs, kt, sy, sx, C, kh, kw].
    parts = whole.unflatten(4, (-1, stride[1])).unflatten(3, (-1, stride[0])).permute(0, 2, 4, 6, 1, 3, 5)
    channels = parts.flatten(1, 4)
    channels = functional.pad(channels, (0, 0, 0, 0, 0, -channels.shape[1] % CHANNEL_MULTIPLE))
    starts = before[0] + shifts[0], before[1] + shifts[1]
    return Stack(channels.contiguous(memory_format=torch.channels_last), weight.shape[2], stride, starts)


def convolve_stacked(
    x: torch.Tensor,
    stacked: Stack,
    bias: torch.Tensor | None,
    time_padding: int,
    outputs: tuple[int, int],
    activation: nn.Module | None = None,
) -> torch.Tensor:
    """Computes a stacked convolution of ``[n, C, T, H, W]``, channels last. ``outputs`` is the size of the result."""
    many, (high, wide) = stacked.weight.shape[1], stacked.weight.shape[2:]
    (sy, sx), (top, left) = stacked.stride, stacked.before
    rows, columns = outputs[0] + high - 1, outputs[1] + wide - 1
    frames = x.to(stacked.weight.dtype).permute(0, 2, 3, 4, 1)
    n, _, height, width, channels = frames.shape
    bottom, right = rows * sy - height - top, columns * sx - width - left
    whole = functional.pad(frames, (0, 0, left, right, top, bottom, time_padding, time_padding)).contiguous()
    time = whole.shape[1] - stacked.frames + 1
    blocks = whole.new_empty(n, time, rows, columns, many)
    used = stacked.frames * sy * sx * channels
    blocks[..., used:] = 0
    # Adjacent pixels of a block are copied together, in units of four bytes if their size allows it.
    unit = sx * channels
    as_units = torch.int32 if unit * whole.element_size() % 4 == 0 else whole.dtype
    source = whole.flatten(3).view(as_units).unflatten(3, (columns, -1)).unflatten(2, (rows, sy))
    # [n, T, kt, rows, sy, columns, unit] to [n, T, rows, columns, kt, sy, unit].
    source = source.unfold(1, stacked.frames, 1).movedim(-1, 2).permute(0, 1, 3, 5, 2, 4, 6)
    count = source.shape[4:].numel()
    blocks.view(as_units)[..., :count].unflatten(-1, source.shape[4:]).copy_(source)
    y = _convolve2d(blocks.flatten(0, 1).permute(0, 3, 1, 2), stacked.weight, bias, (1, 1), (0, 0), 1, activation)
    return y.unflatten(0, (n, time)).transpose(1, 2)


def add_and_activate(y: torch.Tensor, activation: nn.Module | None, residual: torch.Tensor | None) -> torch.Tensor:
    """``activation(y + residual)``, in place. ``y`` must not be used elsewhere."""
    y = y if residual is None else y.add_(residual)
    return y if activation is None else activation(y)


def _as_pictures(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def _multiply(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: nn.Module | None
) -> torch.Tensor:
    """A 1×1×1 convolution: ``[n, C, T, H, W]`` times ``[outputs, C]``."""
    pixels = x.permute(0, 2, 3, 4, 1)
    rows = pixels.flatten(0, 3)
    if bias is not None and type(activation) is nn.ReLU:
        y = linear_relu(rows, weight, bias)
    else:
        y = add_and_activate(functional.linear(rows, weight, bias), activation, None)
    return y.unflatten(0, pixels.shape[:-1]).permute(0, 4, 1, 2, 3)


def _convolve2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    groups: int,
    activation: nn.Module | None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    is_aligned = groups == 1 and weight.shape[0] % CHANNEL_MULTIPLE == weight.shape[1] % CHANNEL_MULTIPLE == 0
    if x.is_cuda and is_aligned and bias is not None and type(activation) is nn.ReLU:
        return conv2d_relu(x, weight, bias, residual, tuple(stride), tuple(padding))
    return add_and_activate(functional.conv2d(x, weight, bias, stride, padding, 1, groups), activation, residual)


def _can_pool(pictures: torch.Tensor) -> bool:
    """Checks whether the kernel of ``pool_kernel`` supports these pictures."""
    channels = pictures.shape[1]
    is_power_of_two = channels & (channels - 1) == 0
    return is_power_of_two and pictures.numel() < 2**31 and pictures.is_contiguous(memory_format=torch.channels_last)


def _pool_in_triton(
    x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> torch.Tensor:
    # The import fails if PyTorch comes without Triton. The first call fails if there is no C compiler.
    from tagger.models.fast import pool_kernel

    return pool_kernel.max_pool2d(x, kernel, stride, padding)


max_pool2d = Probed(_pool_in_triton, functional.max_pool2d)
"""``max_pool2d`` of ``[n, C, H, W]``, channels last."""
