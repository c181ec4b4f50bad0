"""``cnn3d-lstm``: three 3D-convolution blocks, then an LSTM. Small, and trained from scratch.

The textbook form sees frames and has the head ``lstm-last``. With ``differences``, the default of ``vtag train``, the
input is the difference of each frame to the one before, instead of the frames. A small data set shows each action in
few places, and a network that is trained from scratch memorises these places. Differences show almost nothing of the
place. Tao et al. (2020, https://arxiv.org/abs/2001.05661) found that 3D networks trained from scratch gain most from
this.

A block is a convolution, batch norm, a 1×2×2 max pool and ReLU. Time is never pooled, so the LSTM sees one step for
each difference, or each frame. With a clip of 16 frames and the default filters the shapes are::

                             differences, 112×112       frames, 112×112            frames, 224×224
    clip                     [n,   3, 16, 112, 112]     [n,   3, 16, 112, 112]     [n,   3, 16, 224, 224]
    differences              [n,   3, 15, 112, 112]
    block 1                  [n,  32, 15,  28,  28]     [n,  32, 16,  56,  56]     [n,  32, 16, 112, 112]
    block 2                  [n,  64, 15,  14,  14]     [n,  64, 16,  28,  28]     [n,  64, 16,  56,  56]
    block 3                  [n, 128, 15,   7,   7]     [n, 128, 16,  14,  14]     [n, 128, 16,  28,  28]
    average over a 4×4 grid  [n, 128, 15,   4,   4]     [n, 128, 16,   4,   4]     [n, 128, 16,   4,   4]
    flattened, for the head  [n, 15, 2048]              [n, 16, 2048]              [n, 16, 2048]

The convolutions are 3×3×3, except the first one on differences: it is 3×5×5 with a stride of 2 in space. The average
over the grid is the only part that a textbook lacks: it keeps the LSTM small, see ``GRID``.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from tagger.models.heads import HeadName, build_head

GRID = 4
"""Side of the grid to which the maps of block 3 are averaged. The grid keeps the position in the picture.

With 7×7 maps the LSTM would have 6,272 inputs and 3.3 million weights, with 14×14 maps 12.9 million, with 28×28 maps
51.4 million; with 4×4 it has 1.1 million.
"""

GAIN = 2
"""Factor for differences, which are mostly small in real videos."""

SAFE_SIDE, SAFE_FRAMES = 28, 8
"""Largest side in pixels, and smallest number of frames, that PyTorch's own 3D convolutions take on a CPU.

Up to 28×28, their gradients in bfloat16 were right with 8 to 16 frames in batches of 1, 3 and 8 (PyTorch 2.15; a Xeon
with AMX, and a Zen 4).
"""


class StackedConv3d(nn.Conv3d):
    """A 3×k×k convolution without bias; on a CPU a 2D convolution of each frame stacked with the two frames beside it.

    PyTorch 2.15 computes 3D convolutions of few frames wrong in bfloat16 on a CPU. With AMX and 1 to 7 frames of 56×56
    or more, gradients were up to 200,000 times too large or results not a number, and the gradient of 3 channels at
    stride 1 wrote past its memory, so that training crashed. On a Zen 4, the gradient of the weights was wrong or
    infinite with 2 frames of any size. 2D convolutions have none of these faults. From ``SAFE_FRAMES`` on, and up to
    ``SAFE_SIDE``, the 3D convolution is right, and training takes less time with it.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1):
        pad = kernel // 2
        super().__init__(inputs, outputs, (3, kernel, kernel), (1, stride, stride), (1, pad, pad), bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, inputs, T, H, W]`` to ``[n, outputs, T, H / stride, W / stride]``."""
        if x.device.type != "cpu" or (x.shape[2] >= SAFE_FRAMES and max(x.shape[3:]) <= SAFE_SIDE):
            return super().forward(x)
        n, _, time = x.shape[:3]
        padded = functional.pad(x, (0, 0, 0, 0, 1, 1))
        stacked = torch.cat([padded[:, :, step : step + time] for step in range(3)], dim=1)
        frames = stacked.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        # [outputs, inputs, 3, k, k] to [outputs, 3 * inputs, k, k], in the order of the stacked frames.
        kernel = self.weight.transpose(1, 2).flatten(1, 2)
        stride, padding = self.stride[1:], self.padding[1:]
        return functional.conv2d(frames, kernel, None, stride, padding).unflatten(0, (n, time)).transpose(1, 2)


def _block(convolution: nn.Conv3d) -> nn.Sequential:
    # The norm has its own bias, so the convolution needs none. ReLU and max pool commute, and ReLU after the pool has a
    # quarter of the work.
    return nn.Sequential(
        convolution,
        nn.BatchNorm3d(convolution.out_channels),
        nn.MaxPool3d(kernel_size=(1, 2, 2)),
        nn.ReLU(),
    )


class CNN3DBackbone(nn.Module):
    """The blocks and the flattening: ``[n, 3, T, H, W]`` to features ``[n, T, filters[-1] * 16]``.

    With ``differences`` the features are ``[n, T - 1, filters[-1] * 16]``, and a clip must have at least two frames of
    16×16.
    """

    def __init__(self, filters: Sequence[int] = (32, 64, 128), differences: bool = False):
        super().__init__()
        # A stride of 2, because full-size maps of differences would take most of the time and help very little.
        first = StackedConv3d(3, filters[0], kernel=5, stride=2) if differences else StackedConv3d(3, filters[0])
        others = (StackedConv3d(a, b) for a, b in pairwise(filters))
        self.blocks = nn.Sequential(*map(_block, (first, *others)))
        self.features = filters[-1] * GRID * GRID
        self.differences = differences

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, steps, filters[-1] * 16]``: a feature vector for each frame or difference."""
        if self.differences:
            clips = GAIN * (clips[:, :, 1:] - clips[:, :, :-1])
        # Frames become part of the batch, because the CPU has 2D average pooling in bfloat16, but not 3D.
        maps = self.blocks(clips).transpose(1, 2).flatten(0, 1)
        grid = functional.adaptive_avg_pool2d(maps, GRID)
        return grid.reshape(len(clips), -1, self.features)


class CNN3DLSTM(nn.Module):
    """The three blocks and a head: ``[n, 3, T, H, W]`` to logits ``[n, classes]``. The classifier applies softmax."""

    def __init__(
        self,
        classes: int,
        head: HeadName = "lstm",
        hidden: int = 128,
        dropout: float = 0.5,
        filters: Sequence[int] = (32, 64, 128),
        differences: bool = False,
    ):
        super().__init__()
        self.backbone = CNN3DBackbone(filters, differences)
        self.head = build_head(head, self.backbone.features, classes, hidden, dropout)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, classes]``."""
        return self.head(self.backbone(clips))
