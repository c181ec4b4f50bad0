"""Makes the training of depthwise 3D convolutions fast enough on a CPU.

PyTorch's backward pass of a depthwise ``Conv3d`` takes 25 to 60 times its forward pass on a CPU (2.15, AVX-512:
104 against 1.5 ms at 1152×16×7×7 in bfloat16). An inflated kernel starts as a 2D kernel in the middle of three
slices, and only the changes over time have to be learnt. So during training the convolution is factorised into the 2D
kernel, which is frozen, and three weights per channel over time, which are trained. Afterwards both are merged into an
ordinary 3×k×k kernel. It can be factorised again, because its slices are multiples of one 2D kernel.
"""

from contextlib import suppress
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from tagger.models.i3d_lite import SamePadConv3d, same_pad

SEPARABLE = 0.01
"""Largest distance of a kernel from its factorised form, as a share of its norm.

The rounding to float16 in a model file makes about 0.0005.
"""


class _FixedDepthwise(torch.autograd.Function):
    """Depthwise 2D convolution with a kernel that is not trained; its backward pass is a forward convolution.

    At stride 1 the result is as large as ``x``. At larger strides there is no padding: the caller pads ``x`` so that
    the steps of the kernel cover it exactly.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernel: torch.Tensor, stride: int) -> torch.Tensor:
        ctx.save_for_backward(kernel)
        ctx.stride = stride
        padding = kernel.shape[-1] // 2 if stride == 1 else 0
        return functional.conv2d(x, kernel, None, stride, padding, groups=len(kernel))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (kernel,) = ctx.saved_tensors
        (gradient,) = gradients
        padding = kernel.shape[-1] // 2
        if ctx.stride > 1:
            gradient, padding = _insert_zeros(gradient, ctx.stride, kernel.shape[-1] - 1), 0
        turned = kernel.flip(2, 3).to(gradient.dtype)
        return functional.conv2d(gradient, turned, None, 1, padding, groups=len(kernel)), None, None


def _insert_zeros(x: torch.Tensor, stride: int, border: int) -> torch.Tensor:
    """Returns ``[n, C, H, W]`` with ``stride - 1`` zeros between its values and ``border`` zeros around them."""
    n, channels, height, width = x.shape
    rows, columns = ((size - 1) * stride + 1 for size in (height, width))
    spread = x.new_zeros(n, channels, rows + 2 * border, columns + 2 * border)
    spread = spread.contiguous(memory_format=torch.channels_last)
    spread[:, :, border : border + rows : stride, border : border + columns : stride] = x
    return spread


class FactorisedDepthwise(nn.Module):
    """A depthwise convolution as a fixed 2D kernel, followed by three trainable weights ``taps`` ``[3, C]`` over time.

    It replaces a ``SamePadConv3d`` with a 3×k×k kernel, k odd, whose k×k slices are multiples of one of them. In a
    freshly inflated kernel the two outer slices are zero. Raises ValueError for another kernel.
    """

    def __init__(self, convolution: SamePadConv3d):
        super().__init__()
        weight = convolution.weight.detach()
        if weight.shape[2] != 3:
            raise ValueError(f"the kernel covers {weight.shape[2]} frames; it must cover 3 to be factorised")
        # The largest slice of each channel, [C, 1, k, k], and the other slices as multiples of it.
        largest = weight.square().sum((1, 3, 4)).argmax(1)
        kernel = weight[torch.arange(len(weight)), :, largest]
        products = torch.einsum("citxy,cixy->ct", weight, kernel)
        taps = (products / products.gather(1, largest[:, None]).clamp(min=1e-30)).T
        self._stride = convolution.stride[1]
        self.register_buffer("kernel", kernel.clone())
        self.taps = nn.Parameter(taps.contiguous())
        if (self.merged_kernel() - weight).norm() > SEPARABLE * weight.norm():
            raise ValueError("the slices of the kernel are not multiples of one of them")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``[n, C, T, H, W]``, with H and W divided by the stride and rounded up."""
        n, _, time = x.shape[:3]
        kernel = cast(torch.Tensor, self.kernel).to(x.dtype)
        # [n, C, T, H, W] in channels_last_3d is [n * T, C, H, W] in channels_last: only the strides change.
        frames = x.transpose(1, 2).flatten(0, 1)
        frames = same_pad(frames, kernel.shape[-1], self._stride)
        frames = _FixedDepthwise.apply(frames, kernel, self._stride)
        y = frames.unflatten(0, (n, time)).transpose(1, 2)
        before, now, after = self.taps.to(y.dtype)[..., None, None, None]
        padded = functional.pad(y, (0, 0, 0, 0, 1, 1))
        return before * padded[:, :, :-2] + now * y + after * padded[:, :, 2:]

    def merged_kernel(self) -> torch.Tensor:
        """Returns the ``[C, 1, 3, k, k]`` kernel of the ordinary convolution that computes the same."""
        return torch.einsum("tc,cixy->citxy", self.taps.detach(), cast(torch.Tensor, self.kernel))


def factorise_depthwise(layers: nn.Module) -> dict[str, SamePadConv3d]:
    """Replaces the depthwise ``SamePadConv3d`` inside ``layers`` by factorised ones; returns the originals by name.

    Convolutions that cannot be factorised stay as they are. They only take longer to train.
    """
    originals = {}
    for name, module in list(layers.named_modules()):
        if isinstance(module, SamePadConv3d) and module.groups > 1:
            with suppress(ValueError):
                _replace(layers, name, FactorisedDepthwise(module))
                originals[name] = module
    return originals


def restore_depthwise(layers: nn.Module, originals: dict[str, SamePadConv3d]) -> None:
    """Puts the ``originals`` back into ``layers``, with the kernels that their factorised forms have learnt."""
    for name, convolution in originals.items():
        factorised = cast(FactorisedDepthwise, layers.get_submodule(name))
        with torch.no_grad():
            convolution.weight.copy_(factorised.merged_kernel())
        _replace(layers, name, convolution)


def _replace(layers: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(layers.get_submodule(parent), attribute, module)
