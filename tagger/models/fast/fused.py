"""A network as it is used, not trained: the same function with less work.

- A batch norm that follows a convolution becomes part of its weights.
- Of a kernel over several frames that is zero in all but the middle one, the middle is kept: that is what inflating a
  2D network made of it, when training has not changed it.
- The activation that comes next is computed with the convolution, while its result is still in the cache. On a CPU
  that is oneDNN's convolution with post-operations (``operators``).
- In a residual block the shortcut and the activation after it are added by the last convolution.
- Where layers see single frames, the first of them, whose pictures are large, take a few frames at a time on a CPU.
- On a GPU layers are computed by 2D kernels and matrix products (``flat``).

How much that is worth is measured by ``python -m tests.benchmarks.fused``, on a GPU by ``tests.benchmarks.gpu``.
"""

import sys
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tagger.models.fast.flat import (
    FEW_CHANNELS,
    Stack,
    average_pool,
    convolve,
    convolve_stacked,
    finish,
    max_pool,
    stack,
)
from tagger.models.fast.operators import ONEDNN_ACTIVATIONS, conv3d
from tagger.models.i3d_lite import LiteBackbone, SamePadConv3d, same_pad, same_padding

FLAT_ON = frozenset({"cuda"})
"""Kinds of devices on which layers are computed as ``flat`` does. A CPU has oneDNN."""

FIRST_LAYERS = 5
"""How many layers at the start of a network take a few frames at a time: in EfficientNet-Lite0 those with pictures of
56×56 and larger. Later ones have more weights than pixels, and are better read once for all frames."""

FRAMES_IN_PART = 2
"""Frames that they take at a time on a CPU: what a layer makes of two fits into the cache, 16 are up to 39 MB."""


class FusedConv3d(nn.Module):
    """A 3D convolution with the batch norm and the activation after it, either of which may be missing."""

    def __init__(self, convolution: nn.Conv3d, norm: nn.BatchNorm3d | None, activation: nn.Module | None):
        super().__init__()
        folded = convolution if norm is None else fuse_conv_bn_eval(convolution, norm)
        is_single = _sees_single_frames(convolution)
        middle = convolution.kernel_size[0] // 2
        weight = folded.weight[:, :, middle : middle + 1] if is_single else folded.weight
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = None if folded.bias is None else nn.Parameter(folded.bias.detach().clone(), requires_grad=False)
        # pytorchvideo has NumPy's integers among them.
        self.stride, self.groups = [int(step) for step in convolution.stride], convolution.groups
        self.padding = [0 if is_single else int(convolution.padding[0]), *map(int, convolution.padding[1:])]
        self.is_same_padded = isinstance(convolution, SamePadConv3d)
        self.activation = activation
        self._stacks: dict[Any, Stack] = {}
        """The weights as ``flat`` stacks them, by the padding before the first pixel, their precision and device."""

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """``[n, inputs, T, H, W]`` to ``[n, outputs, T', H', W']`` in its own precision, whatever that of ``x`` is.

        ``residual`` has the shape of the result, and is added before the activation.
        """
        x = x.to(self.weight.dtype)
        is_few = x.shape[1] <= FEW_CHANNELS and self.stride[0] == self.groups == 1 and residual is None
        if x.device.type in FLAT_ON and is_few:
            return self._stacked(x)
        if self.is_same_padded:
            x = same_pad(x, self.weight.shape[-1], self.stride[-1])
        layer = x, self.weight, self.bias, tuple(self.stride), tuple(self.padding)
        if x.device.type in FLAT_ON:
            return convolve(*layer, self.groups, self.activation, residual)
        if x.device.type != "cpu":
            return finish(functional.conv3d(*layer, 1, self.groups), self.activation, residual)
        if residual is not None:
            return finish(conv3d(*layer, self.groups, None), self.activation, residual)
        return conv3d(*layer, self.groups, None if self.activation is None else type(self.activation))

    def _stacked(self, x: torch.Tensor) -> torch.Tensor:
        steps = self.stride[1], self.stride[2]
        pads = [(pad, pad) for pad in self.padding[1:]]
        if self.is_same_padded and steps != (1, 1):
            pads = [same_padding(side, self.weight.shape[-1], self.stride[-1]) for side in x.shape[3:]]
        before = pads[0][0], pads[1][0]
        key = before, x.dtype, x.device
        if key not in self._stacks:
            self._stacks[key] = stack(self.weight, steps, before)
        kernel, sides = self.weight.shape[3:], x.shape[3:]
        height, width = (
            (side + sum(pad) - long) // step + 1
            for side, pad, long, step in zip(sides, pads, kernel, steps, strict=True)
        )
        return convolve_stacked(x, self._stacks[key], self.bias, self.padding[0], (height, width), self.activation)

    def extra_repr(self) -> str:
        """What distinguishes it from others with the same weights."""
        return f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}, same={self.is_same_padded}"


class FusedResBlock(nn.Module):
    """A residual block of pytorchvideo with its convolutions fused, whose last one adds the shortcut and ends it."""

    def __init__(self, block: Any):
        super().__init__()
        branch = block.branch2
        self.shortcut: FusedConv3d | None = block.branch1_conv
        self.layers = nn.Sequential(branch.conv_a, branch.conv_b)
        self.last: FusedConv3d = branch.conv_c
        self.last.activation = block.activation
        if self.shortcut is not None:
            # The last one adds both biases.
            assert self.last.bias is not None and self.shortcut.bias is not None
            self.last.bias.add_(self.shortcut.bias)
            self.shortcut.bias = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, inputs, T, H, W]`` to ``[n, outputs, T', H', W']``."""
        return self.last(self.layers(x), x if self.shortcut is None else self.shortcut(x))


class FusedPool3d(nn.Module):
    """A pool that takes the way of ``flat`` where convolutions do."""

    def __init__(self, pool: nn.MaxPool3d | nn.AvgPool3d):
        super().__init__()
        assert not pool.ceil_mode, pool
        self.is_max = isinstance(pool, nn.MaxPool3d)
        if isinstance(pool, nn.MaxPool3d):
            assert pool.dilation in (1, (1, 1, 1)) and not pool.return_indices, pool
        else:
            assert pool.count_include_pad and pool.divisor_override is None, pool
        self.kernel, self.stride, self.padding = (
            [size] * 3 if isinstance(size, int) else [int(each) for each in size]
            for size in (pool.kernel_size, pool.stride, pool.padding)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to ``[n, C, T', H', W']``."""
        is_flat = x.device.type in FLAT_ON
        if self.is_max:
            return (max_pool if is_flat else functional.max_pool3d)(x, self.kernel, self.stride, self.padding)
        return (average_pool if is_flat else functional.avg_pool3d)(x, self.kernel, self.stride, self.padding)

    def extra_repr(self) -> str:
        """What distinguishes it from others."""
        kind = "max" if self.is_max else "average"
        return f"{kind}, {self.kernel}, stride={self.stride}, padding={self.padding}"


class InParts(nn.Sequential):
    """Layers of which each sees single frames; on a CPU they take FRAMES_IN_PART of them at a time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to ``[n, C', T, H', W']``."""
        if x.device.type != "cpu":
            return super().forward(x)
        n, _, time = x.shape[:3]
        # Of clips in channels_last_3d, frames are clips of one frame in the same order: a change of strides.
        frames = x.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        y = torch.cat([super(InParts, self).forward(part) for part in frames.split(FRAMES_IN_PART)])
        return y.squeeze(2).unflatten(0, (n, time)).transpose(1, 2)


def fuse(network: nn.Module) -> nn.Module:
    """A network that computes what ``network`` does, faster. It takes the place of ``network``, which it is made of.

    A norm or an activation follows a convolution when it was registered right after it, as in every network that
    ``build_network`` makes. ``network`` must be in evaluation mode and is not to be trained any more.
    """
    for module in list(network.modules()):
        children = list(module.named_children())
        for place, (name, convolution) in enumerate(children):
            if type(convolution) not in (nn.Conv3d, SamePadConv3d):
                continue
            assert isinstance(convolution, nn.Conv3d)
            assert convolution.dilation == (1, 1, 1) and convolution.padding_mode == "zeros", convolution
            following = children[place + 1 : place + 3]
            norm = following[0][1] if following and isinstance(following[0][1], nn.BatchNorm3d) else None
            after = following[0 if norm is None else 1 :][:1]
            activation = after[0][1] if after and type(after[0][1]) in ONEDNN_ACTIVATIONS else None
            setattr(module, name, FusedConv3d(convolution, norm, activation))
            for other, absorbed in following:
                if absorbed is norm or absorbed is activation:
                    setattr(module, other, nn.Identity())
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if _is_res_block(child):
                setattr(module, name, FusedResBlock(child))
            elif isinstance(child, nn.MaxPool3d | nn.AvgPool3d):
                setattr(module, name, FusedPool3d(child))
    for module in network.modules():
        if type(module) in ONEDNN_ACTIVATIONS:
            # Nothing else needs what it is computed from, and memory that is there is faster than new memory.
            module.inplace = True  # type: ignore[assignment]
    return _in_parts(network) if isinstance(network, LiteBackbone) else network


def _in_parts(network: LiteBackbone) -> nn.Module:
    """The same layers, the first of those that see single frames put together."""
    layers = list(network.named_children())
    start = next(place for place, (name, _) in enumerate(layers) if name == "stem")
    end = start
    while end < start + FIRST_LAYERS and all(
        convolution.weight.shape[2] == 1
        for convolution in layers[end][1].modules()
        if isinstance(convolution, FusedConv3d)
    ):
        end += 1
    first = ("first", InParts(OrderedDict(layers[start:end])))
    return nn.Sequential(OrderedDict([*layers[:start], first, *layers[end:]]))


def _is_res_block(module: nn.Module) -> bool:
    # Who has one has imported it. Others need not: its import takes seconds.
    resnet = sys.modules.get("pytorchvideo.models.resnet")
    return resnet is not None and isinstance(module, resnet.ResBlock)


def _sees_single_frames(convolution: nn.Conv3d) -> bool:
    """Whether each frame of the output depends on the same frame of the input alone."""
    frames = convolution.kernel_size[0]
    if frames % 2 == 0 or convolution.stride[0] != 1 or convolution.padding[0] != frames // 2:
        return False
    others = [frame for frame in range(frames) if frame != frames // 2]
    return not bool(convolution.weight[:, :, others].any())
