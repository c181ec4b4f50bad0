"""Optimises a trained network for prediction: the same results with less work.

- A batch norm after a convolution is folded into the weights of the convolution.
- If a kernel over several frames is zero except in the middle frame, only the middle is kept. Inflating a 2D network
  makes such kernels, and training may leave them unchanged.
- The activation after a convolution is computed together with it, while the result is still in the cache. On a CPU this
  is oneDNN's convolution with post-operations (``operators``).
- In a residual block the last convolution adds the shortcut and applies the activation after it.
- Squeeze-and-excitation takes its means with a matrix product, and scales and applies Swish in one pass.
- The first layers have large pictures. If their kernels cover single frames, a CPU computes a few frames at a time.
- On a GPU layers are computed with 2D kernels and matrix products (``flat``).

``python -m tests.benchmarks.fused`` measures the gain, and ``tests.benchmarks.gpu`` on a GPU.
"""

import sys
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tagger.models.cnn3d import StackedConv3d
from tagger.models.fast.flat import (
    FEW_CHANNELS,
    Stack,
    add_and_activate,
    average_pool,
    convolve,
    convolve_stacked,
    max_pool,
    stack,
)
from tagger.models.fast.operators import ONEDNN_ACTIVATIONS, conv3d, conv3d_add, scaled_swish
from tagger.models.fast.probe import Probed
from tagger.models.i3d_lite import LiteBackbone, SamePadConv3d, same_pad, same_padding

FLAT_DEVICES = frozenset({"cuda"})
"""Device types on which layers are computed with ``flat``. A CPU uses oneDNN instead."""

FIRST_LAYERS = 5
"""Maximum number of layers at the start of a network that take a few frames at a time. In EfficientNet-Lite0 these are
the layers with pictures of 56×56 and larger. Later layers have more weights than pixels, so reading the weights once
for all frames is better."""

FRAMES_PER_PART = 2
"""Frames that these layers take at a time on a CPU. The output for 2 frames fits into the cache; 16 frames need up to
39 MB."""


class FusedConv3d(nn.Module):
    """A 3D convolution with the batch norm and the activation after it. Both are optional."""

    def __init__(self, convolution: nn.Conv3d, norm: nn.BatchNorm3d | None, activation: nn.Module | None):
        super().__init__()
        folded = convolution if norm is None else fuse_conv_bn_eval(convolution, norm)
        is_single = _sees_single_frames(convolution)
        middle = convolution.kernel_size[0] // 2
        weight = folded.weight[:, :, middle : middle + 1] if is_single else folded.weight
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = None if folded.bias is None else nn.Parameter(folded.bias.detach().clone(), requires_grad=False)
        # Converted to int because pytorchvideo uses NumPy integers.
        self.stride, self.groups = [int(step) for step in convolution.stride], convolution.groups
        self.padding = [0 if is_single else int(convolution.padding[0]), *map(int, convolution.padding[1:])]
        self.is_same_padded = isinstance(convolution, SamePadConv3d)
        self.activation = activation
        self._stacks: dict[Any, Stack] = {}
        """The stacked weights, by the padding before the first pixel, the precision and the device."""

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """``[n, inputs, T, H, W]`` of any precision to ``[n, outputs, T', H', W']`` in the precision of the weights.

        ``residual`` has the shape of the result and is added before the activation.
        """
        x = x.to(self.weight.dtype)
        is_few = x.shape[1] <= FEW_CHANNELS and self.stride[0] == self.groups == 1 and residual is None
        if x.device.type in FLAT_DEVICES and is_few:
            return self._stacked(x)
        if self.is_same_padded:
            x = same_pad(x, self.weight.shape[-1], self.stride[-1])
        layer = x, self.weight, self.bias, tuple(self.stride), tuple(self.padding)
        if x.device.type in FLAT_DEVICES:
            return convolve(*layer, self.groups, self.activation, residual)
        if x.device.type != "cpu":
            return add_and_activate(functional.conv3d(*layer, 1, self.groups), self.activation, residual)
        activation = None if self.activation is None else type(self.activation)
        if residual is not None:
            return conv3d_add(*layer[:3], residual, *layer[3:], self.groups, activation)
        return conv3d(*layer, self.groups, activation)

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
        """Describes the layer. This text is part of ``Classifier.fingerprint``."""
        return f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}, same={self.is_same_padded}"


class FusedResBlock(nn.Module):
    """A residual block of pytorchvideo with fused convolutions. The last one adds the shortcut and the activation."""

    def __init__(self, block: Any):
        super().__init__()
        branch = block.branch2
        self.shortcut: FusedConv3d | None = block.branch1_conv
        layers = branch.conv_a, branch.conv_b, branch.act_b
        # The activation is fused, unless squeeze-and-excitation comes before it.
        self.layers = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
        self.last: FusedConv3d = branch.conv_c
        self.last.activation = block.activation
        if self.shortcut is not None and self.shortcut.bias is not None:
            # The last convolution adds both biases.
            assert self.last.bias is not None
            self.last.bias.add_(self.shortcut.bias)
            self.shortcut.bias = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, inputs, T, H, W]`` to ``[n, outputs, T', H', W']``."""
        return self.last(self.layers(x), x if self.shortcut is None else self.shortcut(x))


def _plain_means(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=(2, 3, 4))


def _means_by_product(x: torch.Tensor) -> torch.Tensor:
    pixels = x.permute(0, 2, 3, 4, 1).flatten(1, 3)
    sums = pixels.new_ones(1, pixels.shape[1]) @ pixels
    return sums.div_(pixels.shape[1]).squeeze(1)


channel_means = Probed(_means_by_product, _plain_means)
"""The mean of each channel: ``[n, C, T, H, W]``, channels last, to ``[n, C]``, as a product with ones.

On a CPU with bfloat16 the product is 4 to 10 times as fast as PyTorch's mean (a Xeon with AMX, shapes of X3D-M). The
probe refuses it where the sum is rounded too often.
"""


class SqueezeAndSwish(nn.Module):
    """Squeeze-and-excitation, then the Swish of X3D: ``swish(x * excitation(means of x))``."""

    def __init__(self, excitation: nn.Module):
        super().__init__()
        # For single pixels a matrix product is the same as a convolution, and takes a tenth of its time on a CPU.
        layers = (_as_linear(layer) if isinstance(layer, nn.Conv3d) else layer for layer in excitation.children())
        self.excitation = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to the same shape. ``x`` must not be used elsewhere."""
        if x.device.type == "cpu":
            return scaled_swish(x, self.excitation(channel_means(x))[..., None, None, None])
        factors = self.excitation(_plain_means(x))[..., None, None, None]
        return functional.silu(x.mul_(factors), inplace=True)


def _as_linear(convolution: nn.Conv3d) -> nn.Linear:
    """Returns a layer that computes a 1×1×1 convolution of single pixels ``[n, C]``."""
    linear = nn.Linear(convolution.in_channels, convolution.out_channels, convolution.bias is not None)
    weights = {
        name: tensor.flatten(1) if tensor.ndim > 1 else tensor for name, tensor in convolution.state_dict().items()
    }
    linear.to(convolution.weight).load_state_dict(weights)
    return linear.requires_grad_(False)


class FusedPool3d(nn.Module):
    """A pool that uses ``flat`` on the same devices as convolutions."""

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
        is_flat = x.device.type in FLAT_DEVICES
        if self.is_max:
            return (max_pool if is_flat else functional.max_pool3d)(x, self.kernel, self.stride, self.padding)
        return (average_pool if is_flat else functional.avg_pool3d)(x, self.kernel, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Describes the layer. This text is part of ``Classifier.fingerprint``."""
        kind = "max" if self.is_max else "average"
        return f"{kind}, {self.kernel}, stride={self.stride}, padding={self.padding}"


class InParts(nn.Sequential):
    """Layers whose kernels cover single frames. On a CPU they take FRAMES_PER_PART frames at a time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to ``[n, C', T, H', W']``."""
        if x.device.type != "cpu":
            return super().forward(x)
        n, _, time = x.shape[:3]
        # In channels_last_3d, turning each frame into a clip of one frame only changes the strides.
        frames = x.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        y = torch.cat([super(InParts, self).forward(part) for part in frames.split(FRAMES_PER_PART)])
        return y.squeeze(2).unflatten(0, (n, time)).transpose(1, 2)


def fuse(network: nn.Module) -> nn.Module:
    """Returns a faster network with the same results. It reuses and changes the modules of ``network``.

    A norm or activation is fused with a convolution if it was registered directly after it, as in every network that
    ``build_network`` makes. ``network`` must be in evaluation mode, and it cannot be trained afterwards.
    """
    _prepare_x3d(network)
    for module in list(network.modules()):
        children = list(module.named_children())
        for place, (name, convolution) in enumerate(children):
            if type(convolution) not in (nn.Conv3d, SamePadConv3d, StackedConv3d):
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
            # In place, because nothing else needs the input, and existing memory is faster than new memory.
            module.inplace = True  # type: ignore[assignment]
    return _in_parts(network) if isinstance(network, LiteBackbone) else network


def _prepare_x3d(network: nn.Module) -> None:
    """Puts the layers of X3D one after another where pytorchvideo nests them, so that ``fuse`` sees what follows what.

    In the stem the norm follows a pair of convolutions. In a block the norm and squeeze-and-excitation are a pair.
    """
    stem_class, block_class = _classes("stem", "ResNetBasicStem"), _classes("resnet", "BottleneckBlock")
    for module in list(network.modules()):
        if isinstance(module, stem_class) and len(pair := list(module.get_submodule("conv").children())) == 2:
            module.conv = nn.Sequential(*pair, module.get_submodule("norm"), module.get_submodule("activation"))
            module.norm = module.activation = nn.Identity()
        elif isinstance(module, block_class) and isinstance(module.norm_b, nn.Sequential):
            module.norm_b, squeeze = module.norm_b
            is_plain = isinstance(squeeze, nn.Identity)
            module.act_b = nn.SiLU() if is_plain else SqueezeAndSwish(squeeze.get_submodule("block"))


def _in_parts(network: LiteBackbone) -> nn.Module:
    """Groups the first layers whose kernels cover single frames into ``InParts``."""
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


def _classes(module: str, name: str) -> tuple[type, ...]:
    """Returns a class of ``pytorchvideo.models``, or nothing if it is not imported.

    The import takes seconds. A network with such layers has imported it already.
    """
    found = sys.modules.get(f"pytorchvideo.models.{module}")
    return () if found is None else (getattr(found, name),)


def _is_res_block(module: nn.Module) -> bool:
    return isinstance(module, _classes("resnet", "ResBlock"))


def _sees_single_frames(convolution: nn.Conv3d) -> bool:
    """Checks whether each frame of the output depends only on the same frame of the input."""
    frames = convolution.kernel_size[0]
    if frames % 2 == 0 or convolution.stride[0] != 1 or convolution.padding[0] != frames // 2:
        return False
    others = [frame for frame in range(frames) if frame != frames // 2]
    return not bool(convolution.weight[:, :, others].any())
