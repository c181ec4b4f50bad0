"""``x3d-m-kinetics400``: pytorchvideo's X3D-M.

X3D (https://arxiv.org/abs/2004.04730) has bottlenecks whose 3×3×3 kernels are depthwise, and squeeze-and-excitation in
every second one. The M is the size for clips of 16×224×224. The network is ``pytorchvideo.models.hub.x3d_m``; its
layers are used unchanged.
"""

import torch
from torch import nn

from tagger.models.model_zoo import KINETICS_CLASSES, x3d_m_blocks


class X3DKinetics400(nn.Module):
    """pytorchvideo's X3D-M: ``[n, 3, T, H, W]`` to logits ``[n, classes]``.

    ``backbone`` gives ``[n, 192, T, H / 32, W / 32]``. The head averages over blocks of 16×7×7 of that, so T must be at
    least 16, and H and W more than 192. The head does not apply softmax.
    """

    def __init__(self, classes: int = KINETICS_CLASSES):
        super().__init__()
        blocks = x3d_m_blocks(classes)
        self.backbone = nn.Sequential(*blocks[:-1])
        self.head = blocks[-1]

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, classes]``."""
        return self.head(self.backbone(clips))
