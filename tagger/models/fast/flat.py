"""3D layers computed by 2D kernels, and by matrix products: the same numbers, sooner on a GPU.

In ``channels_last_3d`` a clip ``[n, C, T, H, W]`` lies in memory as n·T·H·W rows of C values, and with other strides it
is something else, without a copy: n·T pictures of H×W, or n pictures of T×(H·W). So a kernel that sees single frames is
a 2D kernel on pictures, and one that sees single pixels over time is a 2D kernel on the others. The libraries for GPUs
have better kernels for two dimensions than for three. ``python -m tests.benchmarks.gpu models`` measures both ways.
"""

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextvars import ContextVar
from functools import cache, reduce
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

FEW_CHANNELS = 4
"""A convolution of so few channels leaves most of a tensor core idle, whose rows are 8 values at least."""

ROW = 8
"""Values in a row of a tensor core's matrix, in 16 bits: channels are filled up with zeros to a multiple."""

_is_tuning: ContextVar[bool] = ContextVar("is_tuning", default=False)
_tuning_lock = threading.Lock()
"""PyTorch has one setting for all threads."""


@contextlib.contextmanager
def tuning() -> Iterator[None]:
    """Within it, cuDNN tries all of its kernels for a shape that it sees for the first time, and keeps the fastest.

    What it takes by itself was up to 2.6 times as slow (1×1×1 and 3×1×1 convolutions of the I3D on an H200). It does so
    where it adds bias, residual and ReLU, which for all shapes of the I3D takes about half a second, and not elsewhere:
    for the depthwise convolutions of EfficientNet-Lite0 it takes seconds, and finds nothing better.
    """
    token = _is_tuning.set(True)
    try:
        yield
    finally:
        _is_tuning.reset(token)


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
    # In float32 a GPU computes convolutions, but not products, with TF32 units: PyTorch's default.
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
    return finish(functional.conv3d(x, weight, bias, stride, padding, 1, groups), activation, residual)


def max_pool(x: torch.Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> torch.Tensor:
    """What ``max_pool3d`` makes of ``[n, C, T, H, W]``, channels last."""
    if kernel[0] == stride[0] == 1 and padding[0] == 0:
        pictures = _as_pictures(x)
        pool = _pool_kernel(x.device, x.dtype) if x.is_cuda and _can_pool(pictures) else functional.max_pool2d
        y = pool(pictures, kernel[1:], stride[1:], padding[1:])
        return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
    if kernel[1:] == stride[1:] == [1, 1] and not any(padding) and x.shape[2] >= kernel[0]:
        end = x.shape[2] - kernel[0] + 1
        return reduce(torch.maximum, [x[:, :, first : end + first : stride[0]] for first in range(kernel[0])])
    return functional.max_pool3d(x, kernel, stride, padding)


def average_pool(x: torch.Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> torch.Tensor:
    """What ``avg_pool3d`` makes of ``[n, C, T, H, W]``; sooner where each average is over whole frames."""
    if list(x.shape[3:]) != kernel[1:] or stride[0] != 1 or any(padding):
        return functional.avg_pool3d(x, kernel, stride, padding)
    return x.mean(dim=(3, 4), keepdim=True).unfold(2, kernel[0], 1).mean(dim=-1)


class Stack(NamedTuple):
    """How a convolution of few channels becomes one of many (``stack``).

    ``weight`` is ``[outputs, many, kh, kw]``. A pixel of its input is a block of ``stride`` pixels of ``frames``
    frames, so that it moves by one. ``before`` is how many pixels are filled in before the first (y, x).
    """

    weight: torch.Tensor
    frames: int
    stride: tuple[int, int]
    before: tuple[int, int]


def stack(weight: torch.Tensor, stride: tuple[int, int], before: tuple[int, int]) -> Stack:
    """Makes a ``Stack`` of the weights ``[outputs, C, kt, kh, kw]`` of a convolution that pads ``before`` (y, x).

    What it sees of one place, the frames of its kernel and the pixels of its stride, becomes channels. For pixels that
    is known as space-to-depth. ``stride`` is in space (y, x).
    """
    shifts, pads = [], []
    for side, pad, step in zip(weight.shape[3:], before, stride, strict=True):
        # The kernel begins and ends with whole blocks: with zeros, where it has to.
        shifts.append(-pad % step)
        pads.append((shifts[-1], -(side + shifts[-1]) % step))
    whole = functional.pad(weight, (*pads[1], *pads[0]))
    # [outputs, C, kt, kh, sy, kw, sx] to [outputs, kt, sy, sx, C, kh, kw].
    parts = whole.unflatten(4, (-1, stride[1])).unflatten(3, (-1, stride[0])).permute(0, 2, 4, 6, 1, 3, 5)
    channels = parts.flatten(1, 4)
    channels = functional.pad(channels, (0, 0, 0, 0, 0, -channels.shape[1] % ROW))
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
    """What the convolution makes of ``[n, C, T, H, W]``, channels last, whose result has ``outputs`` (H, W)."""
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
    # The pixels of a block that lie side by side are copied as one, in units of four bytes where they are that.
    unit = sx * channels
    as_units = torch.int32 if unit * whole.element_size() % 4 == 0 else whole.dtype
    source = whole.flatten(3).view(as_units).unflatten(3, (columns, -1)).unflatten(2, (rows, sy))
    # [n, T, kt, rows, sy, columns, unit] to [n, T, rows, columns, kt, sy, unit].
    source = source.unfold(1, stacked.frames, 1).movedim(-1, 2).permute(0, 1, 3, 5, 2, 4, 6)
    count = source.shape[4:].numel()
    blocks.view(as_units)[..., :count].unflatten(-1, source.shape[4:]).copy_(source)
    y = _convolve2d(blocks.flatten(0, 1).permute(0, 3, 1, 2), stacked.weight, bias, (1, 1), (0, 0), 1, activation)
    return y.unflatten(0, (n, time)).transpose(1, 2)


def finish(y: torch.Tensor, activation: nn.Module | None, residual: torch.Tensor | None) -> torch.Tensor:
    """``activation(y + residual)``, in place: nothing else has ``y``."""
    y = y if residual is None else y.add_(residual)
    return y if activation is None else activation(y)


def _as_pictures(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def _multiply(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: nn.Module | None
) -> torch.Tensor:
    """A 1×1×1 convolution: ``[n, C, T, H, W]`` times ``[outputs, C]``."""
    pixels = x.permute(0, 2, 3, 4, 1)
    rows, columns = pixels.flatten(0, 3), weight.t()
    if bias is None:
        y = finish(rows @ columns, activation, None)
    elif type(activation) is nn.ReLU:
        # Bias and ReLU before the result is written, through the operator that torch.compile calls as well.
        y = torch._addmm_activation(bias, rows, columns)
    else:
        y = finish(torch.addmm(bias, rows, columns), activation, None)
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
    # cuDNN adds bias and residual and applies ReLU before it writes the result, which else takes most of the time.
    is_aligned = groups == 1 and weight.shape[0] % ROW == weight.shape[1] % ROW == 0
    if x.is_cuda and is_aligned and bias is not None and type(activation) is nn.ReLU and _has_cudnn(x.device, x.dtype):
        y = _convolve_in_cudnn(x, weight, bias, residual, stride, padding)
        if y is not None:
            return y
    return finish(functional.conv2d(x, weight, bias, stride, padding, 1, groups), activation, residual)


_refused: set[Hashable] = set()
"""Convolutions that cuDNN has no kernel for."""


def _convolve_in_cudnn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    residual: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
) -> torch.Tensor | None:
    """``ReLU(conv2d(x) + residual)``, or None where cuDNN cannot do that in one."""
    shape = (x.device, x.dtype, x.shape, weight.shape, tuple(stride), tuple(padding), residual is None)
    if shape in _refused:
        return None
    sizes = list(stride), list(padding), [1, 1], 1
    try:
        with _tuned():
            if residual is None:
                return torch.cudnn_convolution_relu(x, weight, bias, *sizes)
            return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, *sizes)
    except torch.OutOfMemoryError:
        raise  # With fewer clips it may work.
    except RuntimeError:
        _refused.add(shape)
        return None


@contextlib.contextmanager
def _tuned() -> Iterator[None]:
    if not _is_tuning.get():
        yield
        return
    with _tuning_lock:
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = before


def _can_pool(pictures: torch.Tensor) -> bool:
    """Whether the kernel of ``pool_kernel`` takes them."""
    channels = pictures.shape[1]
    is_power_of_two = channels & (channels - 1) == 0
    return is_power_of_two and pictures.numel() < 2**31 and pictures.is_contiguous(memory_format=torch.channels_last)


@cache
def _pool_kernel(device: torch.device, precision: torch.dtype) -> Callable[..., torch.Tensor]:
    """The fastest max pool that works here. Triton's needs a C compiler."""
    x = torch.linspace(-1, 1, 2 * ROW * 64, device=device).to(precision).view(2, 8, 8, ROW).permute(0, 3, 1, 2)
    sizes = [3, 3], [2, 2], [1, 1]
    try:
        from tagger.models.fast.pool_kernel import max_pool2d

        if torch.equal(max_pool2d(x, *sizes), functional.max_pool2d(x, *sizes)):
            return max_pool2d
    except torch.OutOfMemoryError:
        raise  # Another time it may work.
    except Exception:  # Whatever Triton and the compiler that it calls may raise.
        pass
    return functional.max_pool2d


@cache
def _has_cudnn(device: torch.device, precision: torch.dtype) -> bool:
    """Whether this torch and this GPU have the convolution with bias, residual and ReLU, which is not documented.

    It is tried once on a small one.
    """
    try:
        x = torch.linspace(-1, 1, 2 * ROW * 64, device=device).to(precision).view(2, ROW, 8, 8)
        x = x.contiguous(memory_format=torch.channels_last)
        weight = torch.linspace(-1, 1, ROW * ROW * 9, device=device).to(precision).view(ROW, ROW, 3, 3)
        weight = weight.contiguous(memory_format=torch.channels_last)
        bias = torch.linspace(-1, 1, ROW, device=device).to(precision)
        plain = functional.conv2d(x, weight, bias, padding=1)
        sizes = [1, 1], [1, 1], [1, 1], 1
        found = torch.cudnn_convolution_relu(x, weight, bias, *sizes)
        added = torch.cudnn_convolution_add_relu(x, weight, x, 1.0, bias, *sizes)
    except torch.OutOfMemoryError:
        raise  # Another time it may work.
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    pairs = (found, plain.relu()), (added, (plain + x).relu())
    return all(torch.allclose(actual, expected, rtol=0.05, atol=0.05) for actual, expected in pairs)
