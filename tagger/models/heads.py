"""Heads: they turn the backbone's sequence of features in time into class scores."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from tagger.preprocessing import Preprocessing

HeadName = Literal["lstm", "lstm-last", "mean"]


class SpatialMean(nn.Module):
    """Averages over the picture: ``[n, C, T, H, W]`` to the sequence ``[n, T, C]``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to ``[n, T, C]``."""
        # Not nn.AdaptiveAvgPool3d, which does not exist in bfloat16 on the CPU.
        return x.mean(dim=(3, 4)).transpose(1, 2)


class MeanAndChange(nn.Module):
    """Averages over the picture, and the change between frames: ``[n, C, T, H, W]`` to the sequence ``[n, T, 4 C]``.

    The change is the absolute difference to the frame before, averaged over the top, middle and bottom third of the
    picture. The first frame has the change of the second. The average shows what is in the picture. The change shows
    where it moves, which distinguishes a push-up from a pull-up.
    """

    STRIPS = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, C, T, H, W]`` to ``[n, T, 4 C]``."""
        mean = x.mean(dim=(3, 4))
        if x.shape[2] > 1:
            strips = strip_means((x[:, :, 1:] - x[:, :, :-1]).abs(), self.STRIPS)
            change = [torch.cat([strip[:, :, :1], strip], dim=2) for strip in strips]
        else:
            change = [torch.zeros_like(mean)] * self.STRIPS
        return torch.cat([mean, *change], dim=1).transpose(1, 2)


def strip_means(x: torch.Tensor, strips: int) -> list[torch.Tensor]:
    """Averages over horizontal strips of the picture, top to bottom: ``[n, C, T, H, W]`` to a list of ``[n, C, T]``."""
    by_row = x.mean(dim=4)
    height = x.shape[3]
    # The strips of adaptive pooling. They share a row if the height is not a multiple of their number.
    bounds = [(height * i // strips, -(-height * (i + 1) // strips)) for i in range(strips)]
    return [by_row[..., top:bottom].mean(dim=3) for top, bottom in bounds]


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def power_normalised(features: torch.Tensor) -> torch.Tensor:
    """Replaces non-negative features ``[..., C]`` by their square roots, scaled to length 25.

    This is the power normalisation of Perronnin et al. (2010, https://doi.org/10.1007/978-3-642-15561-1_11). It reduces
    the weight of a few strong features and removes the effect of how bright or busy a frame is.
    """
    # The lower bound keeps the gradient of the square root finite where a feature is 0.
    return 25 * functional.normalize(features.clamp(min=1e-6).sqrt(), dim=-1)


class LSTMHead(nn.Module):
    """LSTM over time, then dense: ``[n, T, C]`` features to ``[n, classes]`` logits.

    The outputs of all steps are averaged, so that an action in only a part of the window still counts. The dense layer
    also gets the average of the features. So the LSTM only has to learn what the average does not show, which is easier
    with a small data set.
    """

    def __init__(self, feature_count: int, classes: int, hidden: int = 256, dropout: float = 0.5):
        super().__init__()
        self.lstm = nn.LSTM(feature_count, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden + feature_count, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, T, C]`` to ``[n, classes]``."""
        # Always in float32, because a head is cheap and a lower precision would make the confidences less exact.
        with _without_autocast(features.device):
            features = features.float()
            steps, _ = self.lstm(self.dropout(power_normalised(features)))
            averages = torch.cat([steps.mean(dim=1), power_normalised(features.mean(dim=1))], dim=1)
            return self.dense(self.dropout(averages))


class LSTMLastHead(nn.Module):
    """LSTM over time, its last step, dropout, dense: ``[n, T, C]`` features to ``[n, classes]`` logits.

    This is the head of most textbooks. The features are not normalised, and only the LSTM leads to the logits.
    """

    def __init__(self, feature_count: int, classes: int, hidden: int = 256, dropout: float = 0.5):
        super().__init__()
        self.lstm = nn.LSTM(feature_count, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, T, C]`` to ``[n, classes]``."""
        with _without_autocast(features.device):
            steps, _ = self.lstm(features.float())
            return self.dense(self.dropout(steps[:, -1]))


class MeanHead(nn.Module):
    """Average over time, then dense. The baseline to measure the gain of an LSTM. ``hidden`` is ignored."""

    def __init__(self, feature_count: int, classes: int, hidden: int = 0, dropout: float = 0.5):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(feature_count, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n, T, C]`` to ``[n, classes]``."""
        with _without_autocast(features.device):
            return self.dense(self.dropout(power_normalised(features.float().mean(dim=1))))


class MeanOverCrops(nn.Module):
    """Averages the logits of ``network`` over crops of a picture: ``[n, crops, ...]`` inputs to ``[n, classes]``."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, crops, ...]`` to ``[n, classes]``."""
        return self.network(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(dim=1)


def over_crops(network: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    """Returns ``network``, with the mean over the crops of its inputs if there are several."""
    return network if preprocessing.crops == 1 else MeanOverCrops(network)


def build_head(head: HeadName, feature_count: int, classes: int, hidden: int, dropout: float) -> nn.Module:
    """Builds the head with the name ``head`` for sequences with ``feature_count`` values a step."""
    heads: dict[str, type[nn.Module]] = {"lstm": LSTMHead, "lstm-last": LSTMLastHead, "mean": MeanHead}
    if head not in heads:
        raise ValueError(f"head is {head!r}; it must be 'lstm', 'lstm-last' or 'mean'")
    return heads[head](feature_count, classes, hidden, dropout)
