"""``cnn3d-lstm``: three 3D-convolution blocks, then an LSTM. Small, and trained from scratch.

A block is a 3×3×3 convolution, batch norm, a 1×2×2 max pool and ReLU. Time is never pooled, so the LSTM sees one step
for each frame. With a 16×112×112 clip and the default filters the shapes are::

    [n,   3, 16, 112, 112]   clip
    [n,  32, 16,  56,  56]   block 1
    [n,  64, 16,  28,  28]   block 2
    [n, 128, 16,  14,  14]   block 3
    [n, 128, 16,   4,   4]   average over a 4×4 grid
    [n, 16, 2048]            time-distributed flatten: what the head takes
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from tagger.models.heads import HeadName, build_head

# Flattened as they are, block 3's 14×14 maps would give the LSTM 25,088 inputs and 12.9 million weights, most of the
# network and far more than a small data set can train. A 4×4 grid keeps where in the picture things happen, in 1.1.
GRID = 4


def _block(inputs: int, outputs: int) -> nn.Sequential:
    # The norm has its own bias, so the convolution needs none. ReLU and max pool commute, and after it ReLU has a
    # quarter of the work.
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm3d(outputs),
        nn.MaxPool3d(kernel_size=(1, 2, 2)),
        nn.ReLU(),
    )


class CNN3DBackbone(nn.Module):
    """The convolution blocks and the flatten: ``[n, 3, T, H, W]`` to features ``[n, T, filters[-1] * 16]``."""

    def __init__(self, filters: Sequence[int] = (32, 64, 128)):
        super().__init__()
        channels = (3, *filters)
        self.blocks = nn.Sequential(*(_block(a, b) for a, b in pairwise(channels)))
        self.features = filters[-1] * GRID * GRID

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, T, filters[-1] * 16]``: one feature vector for each frame."""
        # Frames join the batch because 3D average pooling does not exist in bfloat16 on the CPU, and 2D does.
        frames = self.blocks(clips).transpose(1, 2).flatten(0, 1)
        grid = functional.adaptive_avg_pool2d(frames, GRID)
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
    ):
        super().__init__()
        self.backbone = CNN3DBackbone(filters)
        self.head = build_head(head, self.backbone.features, classes, hidden, dropout)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, classes]``."""
        return self.head(self.backbone(clips))
