"""Undocumented operators of PyTorch, each paired with plain layers that compute the same (``Probed``).

torch.compile uses these operators, too. All private or undocumented parts of PyTorch that vtag uses are in this module.
"""

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn import functional

from tagger.models.fast.probe import Probed

ONEDNN_ACTIVATIONS: dict[type[nn.Module] | None, tuple[str, list[float]]] = {
    None: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
}
"""Names and scalars of the activations for oneDNN's convolution."""

_is_tuning: ContextVar[bool] = ContextVar("is_tuning", default=False)
_tuning_lock = threading.Lock()
"""Protects PyTorch's setting, which is the same for all threads."""


@contextlib.contextmanager
def tuning() -> Iterator[None]:
    """Makes cuDNN measure all kernels for each new shape inside the block, and use the fastest.

    cuDNN's default choice was up to 2.6 times slower (1×1×1 and 3×1×1 convolutions of the I3D on an H200). Only
    convolutions with bias and ReLU (``conv2d_relu``) are tuned, which takes about half a second for all shapes of the
    I3D. For the depthwise convolutions of EfficientNet-Lite0 tuning takes seconds and finds nothing better.
    """
    token = _is_tuning.set(True)
    try:
        yield
    finally:
        _is_tuning.reset(token)


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


def _onednn_conv3d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    groups: int,
    activation: type[nn.Module] | None,
) -> torch.Tensor:
    name, scalars = ONEDNN_ACTIVATIONS[activation]
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, list(padding), list(stride), [1, 1, 1], groups, name, scalars, ""
    )


def _plain_conv3d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    groups: int,
    activation: type[nn.Module] | None,
) -> torch.Tensor:
    y = functional.conv3d(x, weight, bias, stride, padding, 1, groups)
    return y if activation is None else activation(inplace=True)(y)


conv3d = Probed(_onednn_conv3d, _plain_conv3d)
"""``activation(conv3d(x))`` of ``[n, C, T, H, W]`` by oneDNN's convolution with post-operations.

Its arguments are ``x``, ``weight``, ``bias`` or None, ``stride``, ``padding``, ``groups`` and ``activation``, which is
None, ReLU, ReLU6 or SiLU. oneDNN adds the bias and applies the activation while the result is still in the cache.
"""


def _onednn_conv3d_add(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    groups: int,
    activation: type[nn.Module] | None,
) -> torch.Tensor:
    name, scalars = ONEDNN_ACTIVATIONS[activation]
    sizes = list(padding), list(stride), [1, 1, 1], groups
    return torch.ops.mkldnn._convolution_pointwise.binary(
        x, residual, weight, bias, *sizes, "add", 1.0, None if activation is None else name, scalars, ""
    )


def _plain_conv3d_add(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    groups: int,
    activation: type[nn.Module] | None,
) -> torch.Tensor:
    y = functional.conv3d(x, weight, bias, stride, padding, 1, groups).add_(residual)
    return y if activation is None else activation(inplace=True)(y)


conv3d_add = Probed(_onednn_conv3d_add, _plain_conv3d_add)
"""``activation(conv3d(x) + residual)`` by oneDNN, which also adds while the result is in the cache.

Its arguments are those of ``conv3d``, with ``residual`` after ``bias``. The activation is None or ReLU.
"""


def _onednn_scaled_swish(x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    if len(x) > 1:
        raise NotImplementedError("the clips of a batch have other factors")
    ones = [1, 1, 1]
    weight = factors.view(-1, 1, 1, 1, 1)
    return torch.ops.mkldnn._convolution_pointwise(x, weight, None, [0, 0, 0], ones, ones, len(weight), "swish", [], "")


def _plain_scaled_swish(x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    return functional.silu(x * factors, inplace=True)


scaled_swish = Probed(_onednn_scaled_swish, _plain_scaled_swish)
"""``swish(x * factors)`` of ``[n, C, T, H, W]`` with a factor for each channel, ``[n, C, 1, 1, 1]``.

For a single clip, as on a CPU, it is a depthwise convolution of single pixels, with Swish as post-operation: one pass
over memory instead of two.
"""


def _cudnn_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    residual: torch.Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> torch.Tensor:
    sizes = list(stride), list(padding), [1, 1], 1
    with _tuned():
        if residual is None:
            return torch.cudnn_convolution_relu(x, weight, bias, *sizes)
        return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, *sizes)


def _plain_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    residual: torch.Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> torch.Tensor:
    y = functional.conv2d(x, weight, bias, stride, padding)
    return (y if residual is None else y.add_(residual)).relu_()


conv2d_relu = Probed(_cudnn_conv2d, _plain_conv2d)
"""``ReLU(conv2d(x) + residual)`` of ``[n, C, H, W]`` by cuDNN, for shapes with such a kernel.

Its arguments are ``x``, ``weight``, ``bias``, ``residual`` or None, ``stride`` and ``padding``. cuDNN adds bias and
residual and applies ReLU before it writes the result. In plain layers these steps take most of the time.
"""


def _addmm_relu(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch._addmm_activation(bias, rows, weight.t())


def _plain_linear_relu(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.addmm(bias, rows, weight.t()).relu_()


linear_relu = Probed(_addmm_relu, _plain_linear_relu)
"""``ReLU(rows @ weight.t() + bias)`` of ``[n, C]`` by a matrix product that also adds the bias and applies ReLU.

Its arguments are ``rows``, ``weight`` ``[outputs, C]`` and ``bias``.
"""
