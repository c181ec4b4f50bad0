"""What follows a backbone: a sequence of features in time becomes class scores."""

from typing import Literal

import torch
from torch import nn

HeadName = Literal["lstm", "mean"]


class SpatialMean(nn.Module):
    """Average over the picture: ``[n, C, T, H, W]`` to the sequence ``[n, T, C]``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to ``[n, T, C]``."""
        # Not nn.AdaptiveAvgPool3d, which does not exist in bfloat16 on the CPU.
        return x.mean(dim=(3, 4)).transpose(1, 2)


class LSTMHead(nn.Module):
    """LSTM over time, then dense: ``[n, T, C]`` features to ``[n, classes]`` logits.

    The outputs of all steps are averaged, so that an action that fills only a part of the window still counts.
    """

    def __init__(self, features: int, classes: int, hidden: int = 256, dropout: float = 0.5):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, T, C]`` to ``[n, classes]``."""
        # A head is cheap, and float32 keeps its confidences sharp, whatever the backbone was trained in.
        with torch.autocast(features.device.type, enabled=False):
            steps, _ = self.lstm(self.dropout(features.float()))
            return self.dense(self.dropout(steps.mean(dim=1)))


class MeanHead(nn.Module):
    """Average over time, then dense: the yardstick for what an LSTM adds."""

    def __init__(self, features: int, classes: int, hidden: int = 0, dropout: float = 0.5):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(features, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, T, C]`` to ``[n, classes]``."""
        with torch.autocast(features.device.type, enabled=False):
            return self.dense(self.dropout(features.float().mean(dim=1)))


def build_head(head: HeadName, features: int, classes: int, hidden: int, dropout: float) -> nn.Module:
    """The head called ``head`` for ``features``-wide sequences."""
    if head not in ("lstm", "mean"):
        raise ValueError(f"head is {head!r}; it must be 'lstm' or 'mean'")
    return (LSTMHead if head == "lstm" else MeanHead)(features, classes, hidden, dropout)
