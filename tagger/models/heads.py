"""What follows a backbone: a sequence of features in time becomes class scores."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

HeadName = Literal["lstm", "mean"]


class SpatialMean(nn.Module):
    """Average over the picture: ``[n, C, T, H, W]`` to the sequence ``[n, T, C]``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to ``[n, T, C]``."""
        # Not nn.AdaptiveAvgPool3d, which does not exist in bfloat16 on the CPU.
        return x.mean(dim=(3, 4)).transpose(1, 2)


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _normalised(features: torch.Tensor) -> torch.Tensor:
    """Each step's features, none of them negative, as their square roots scaled to length 25, in float32.

    The power normalisation of Perronnin et al. (2010, https://doi.org/10.1007/978-3-642-15561-1_11): a few strong
    features no longer drown the others, and how bright or busy a frame is counts no more.
    """
    # The bound keeps the gradient of the root finite where a feature is 0.
    return 25 * functional.normalize(features.float().clamp(min=1e-6).sqrt(), dim=-1)


class LSTMHead(nn.Module):
    """LSTM over time, then dense: ``[n, T, C]`` features to ``[n, classes]`` logits.

    The outputs of all steps are averaged, so that an action that fills only a part of the window still counts. The
    dense layer sees the average of the features, too: the LSTM then only has to add what an average cannot tell, which
    a small data set teaches more easily.
    """

    def __init__(self, features: int, classes: int, hidden: int = 256, dropout: float = 0.5):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden + features, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, T, C]`` to ``[n, classes]``."""
        # A head is cheap, and float32 keeps its confidences sharp, whatever the backbone was trained in.
        with _without_autocast(features.device):
            features = _normalised(features)
            steps, _ = self.lstm(self.dropout(features))
            averages = torch.cat([steps.mean(dim=1), features.mean(dim=1)], dim=1)
            return self.dense(self.dropout(averages))


class MeanHead(nn.Module):
    """Average over time, then dense: the yardstick for what an LSTM adds."""

    def __init__(self, features: int, classes: int, hidden: int = 0, dropout: float = 0.5):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(features, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, T, C]`` to ``[n, classes]``."""
        with _without_autocast(features.device):
            return self.dense(self.dropout(_normalised(features).mean(dim=1)))


def build_head(head: HeadName, features: int, classes: int, hidden: int, dropout: float) -> nn.Module:
    """The head called ``head`` for ``features``-wide sequences."""
    if head not in ("lstm", "mean"):
        raise ValueError(f"head is {head!r}; it must be 'lstm' or 'mean'")
    return (LSTMHead if head == "lstm" else MeanHead)(features, classes, hidden, dropout)
