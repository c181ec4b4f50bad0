"""``i3d-kinetics400`` and ``i3d-lstm``: the I3D ResNet-50 of pytorchvideo.

I3D is https://arxiv.org/abs/1705.07750. The ResNet-50 version is ``pytorchvideo.models.hub.i3d_r50``; its layers are
used unchanged.
"""

import torch
from torch import nn

from tagger.models.heads import HeadName, SpatialMean, build_head
from tagger.models.model_zoo import KINETICS_CLASSES, i3d_blocks

FEATURES = 2048


class I3DKinetics400(nn.Module):
    """pytorchvideo's I3D ResNet-50: ``[n, 3, T, H, W]`` to logits ``[n, classes]``.

    ``backbone`` gives ``[n, 2048, T / 2, H / 32, W / 32]``. The head averages over blocks of 4×7×7 of that, so T
    must be at least 8, and H and W at least 224. The head does not apply softmax.
    """

    def __init__(self, classes: int = KINETICS_CLASSES):
        super().__init__()
        blocks = i3d_blocks(classes)
        self.backbone = nn.Sequential(*blocks[:-1])
        self.head = blocks[-1]

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, classes]``."""
        return self.head(self.backbone(clips))


class I3DLSTM(nn.Module):
    """The same backbone with vtag's own head: ``[n, 3, T, H, W]`` to logits ``[n, classes]``.

    ``backbone`` gives ``[n, T / 2, 2048]``: 8 steps for a 16-frame clip.
    """

    def __init__(self, classes: int, head: HeadName = "lstm", hidden: int = 512, dropout: float = 0.5):
        super().__init__()
        self.backbone = nn.Sequential(*i3d_blocks(classes)[:-1], SpatialMean())
        self.head = build_head(head, FEATURES, classes, hidden, dropout)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, classes]``."""
        return self.head(self.backbone(clips))
