"""``cnn3d-lstm``: three 3D-convolution blocks, then an LSTM. Small, and trained from scratch.

With ``differences`` it looks at the difference of each frame to the one before, not at the frames. A small data set
shows each action in few places, and a network that starts from nothing learns those by heart; differences have hardly
any place in them. That 3D networks from scratch gain most by it is a finding of Tao et al. (2020,
https://arxiv.org/abs/2001.05661). ``vtag train`` makes networks with it, model files of the first vtag are without.

A block is a convolution, batch norm, a 1×2×2 max pool and ReLU. Time is never pooled, so the LSTM sees one step for
each difference, or each frame. With a 16×112×112 clip and the default filters the shapes are::

                             with differences            without
    clip                     [n,   3, 16, 112, 112]      [n,   3, 16, 112, 112]
    differences              [n,   3, 15, 112, 112]
    block 1                  [n,  32, 15,  28,  28]      [n,  32, 16,  56,  56]
    block 2                  [n,  64, 15,  14,  14]      [n,  64, 16,  28,  28]
    block 3                  [n, 128, 15,   7,   7]      [n, 128, 16,  14,  14]
    average over a 4×4 grid  [n, 128, 15,   4,   4]      [n, 128, 16,   4,   4]
    flattened, for the head  [n, 15, 2048]               [n, 16, 2048]

The convolutions are 3×3×3, but for the first on differences: 3×5×5 with a stride of 2 in space.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from tagger.models.heads import HeadName, build_head

# Flattened as they are, block 3's 7×7 maps would give the LSTM 6,272 inputs and 3.3 million weights (14×14: 12.9
# million). A 4×4 grid keeps where in the picture things happen, in 1.1.
GRID = 4

GAIN = 2
"""What differences are multiplied with: those of real footage are mostly small."""


def _block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    # The norm has its own bias, so the convolution needs none. ReLU and max pool commute, and after it ReLU has a
    # quarter of the work.
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, (3, kernel, kernel), (1, stride, stride), (1, kernel // 2, kernel // 2), bias=False),
        nn.BatchNorm3d(outputs),
        nn.MaxPool3d(kernel_size=(1, 2, 2)),
        nn.ReLU(),
    )


class CNN3DBackbone(nn.Module):
    """The blocks and the flatten: ``[n, 3, T, H, W]`` to features ``[n, T, filters[-1] * 16]``.

    With ``differences`` they are ``[n, T - 1, filters[-1] * 16]``, and a clip has at least two frames of 16×16.
    """

    def __init__(self, filters: Sequence[int] = (32, 64, 128), differences: bool = False):
        super().__init__()
        # Full-sized maps would have most of the cost, and hardly any of the use.
        first = _block(3, filters[0], kernel=5, stride=2) if differences else _block(3, filters[0])
        self.blocks = nn.Sequential(first, *(_block(a, b) for a, b in pairwise(filters)))
        self.features = filters[-1] * GRID * GRID
        self.differences = differences

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, steps, filters[-1] * 16]``: a feature vector for each frame or difference."""
        if self.differences:
            clips = GAIN * (clips[:, :, 1:] - clips[:, :, :-1])
        # Frames join the batch because 3D average pooling does not exist in bfloat16 on the CPU, and 2D does.
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
