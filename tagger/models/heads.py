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


class MeanAndChange(nn.Module):
    """Average over the picture, and how much it changes: ``[n, C, T, H, W]`` to the sequence ``[n, T, 4 C]``.

    The change is the absolute difference to the frame before (of the first frame: that of the second), averaged over
    the top, the middle and the bottom third of the picture. An average tells what is there; where it moves tells a
    push-up from a pull-up.
    """

    STRIPS = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to ``[n, T, 4 C]``."""
        mean = x.mean(dim=(3, 4))
        if x.shape[2] > 1:
            strips = in_strips((x[:, :, 1:] - x[:, :, :-1]).abs(), self.STRIPS)
            change = [torch.cat([strip[:, :, :1], strip], dim=2) for strip in strips]
        else:
            change = [torch.zeros_like(mean)] * self.STRIPS
        return torch.cat([mean, *change], dim=1).transpose(1, 2)


def in_strips(x: torch.Tensor, strips: int) -> list[torch.Tensor]:
    """Averages over horizontal strips of the picture, top to bottom: ``[n, C, T, H, W]`` to that many ``[n, C, T]``."""
    by_row = x.mean(dim=4)
    height = x.shape[3]
    # As adaptive pooling cuts them: parts that share a row where the height is not a multiple of their number.
    bounds = [(height * i // strips, -(-height * (i + 1) // strips)) for i in range(strips)]
    return [by_row[..., top:bottom].mean(dim=3) for top, bottom in bounds]


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _normalised(features: torch.Tensor) -> torch.Tensor:
    """Features ``[..., C]``, none of them negative, as their square roots scaled to length 25.

    The power normalisation of Perronnin et al. (2010, https://doi.org/10.1007/978-3-642-15561-1_11): a few strong
    features no longer drown the others, and how bright or busy a frame is counts no more.
    """
    # The bound keeps the gradient of the root finite where a feature is 0.
    return 25 * functional.normalize(features.clamp(min=1e-6).sqrt(), dim=-1)


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
            features = features.float()
            steps, _ = self.lstm(self.dropout(_normalised(features)))
            averages = torch.cat([steps.mean(dim=1), _normalised(features.mean(dim=1))], dim=1)
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
            return self.dense(self.dropout(_normalised(features.float().mean(dim=1))))


def build_head(head: HeadName, features: int, classes: int, hidden: int, dropout: float) -> nn.Module:
    """The head called ``head`` for ``features``-wide sequences."""
    if head not in ("lstm", "mean"):
        raise ValueError(f"head is {head!r}; it must be 'lstm' or 'mean'")
    return (LSTMHead if head == "lstm" else MeanHead)(features, classes, hidden, dropout)
