"""The two stages of training: the head on features of a frozen backbone, then layers of the backbone as well.

A fresh head sends arbitrary gradients into whatever lies before it, and a small data set does not make up for what they
ruin there; a head that has been trained first does not (Kumar et al., 2022, https://arxiv.org/abs/2202.10054).
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tagger.classifier import Classifier, DeviceName, choose_device, choose_precision
from tagger.ood import OODCalibration
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from training.augment import Augmentation
from training.calibration import fit_temperature
from training.data_set import LabelledClip
from training.depthwise import put_together, take_apart
from training.loop import Epoch, Fit, LoopSettings, fit, predict
from training.sources import FeatureSource, OnClip, PixelSource, RandomViewSource, Source
from training.splits import Split

OnPart = Callable[[str, int], OnClip]
"""Asked, for a part of the split and its number of clips, for a callback that is told of each clip."""


@dataclass(frozen=True)
class Inputs:
    """What a network is trained on, and how it sees it."""

    split: Split
    labels: Sequence[str]
    sampling: Sampling
    preprocessing: Preprocessing
    on_part: OnPart


@dataclass(frozen=True)
class Fitted:
    """A trained network: its epochs, and what calibrates its confidences and its sense of what is strange."""

    fit: Fit
    temperature: float
    ood: OODCalibration


def fit_head(
    network: nn.Module,
    inputs: Inputs,
    settings: LoopSettings,
    device: DeviceName,
    *,
    cache: Path | None = None,
    on_epoch: Callable[[Epoch], None],
) -> Fitted:
    """Trains the head of ``network`` on features of its backbone, which are computed once."""
    # A copy, because the classifier turns its layers into what they run in.
    parts = nn.ModuleDict({"backbone": copy.deepcopy(network.get_submodule("backbone")), "head": nn.Identity()})
    layers = Classifier(parts, inputs.preprocessing, device=device)

    def source(part: str, clips: Sequence[LabelledClip]) -> FeatureSource:
        return FeatureSource(
            clips,
            inputs.labels,
            inputs.sampling,
            inputs.preprocessing,
            layers,
            mirrored=part == "train",
            cache=cache,
            on_clip=inputs.on_part(part, len(clips)),
        )

    head = network.get_submodule("head").to(layers.device)
    return _fit(head, (), source("train", inputs.split.train), source("val", inputs.split.val), settings, on_epoch)


def fit_layers(
    network: nn.Module,
    inputs: Inputs,
    settings: LoopSettings,
    device: DeviceName,
    *,
    train_layers: int | None,
    frames: int | None,
    is_pretrained: bool,
    on_epoch: Callable[[Epoch], None],
) -> Fitted:
    """Trains the last ``train_layers`` layers of the backbone, None being all, and the head, on random views.

    ``frames`` is how many frames a view has: None as many as a window.
    """
    backbone = network.get_submodule("backbone")
    trained: nn.Module = backbone
    fixed = nn.Sequential()
    if train_layers is not None:
        assert isinstance(backbone, nn.Sequential)
        named = list(backbone.named_children())
        # The last layer only pools and has nothing to train.
        first = max(0, len(named) - 1 - train_layers)
        fixed, trained = nn.Sequential(OrderedDict(named[:first])), nn.Sequential(OrderedDict(named[first:]))
    if is_pretrained:
        _freeze_norms(trained)
    split = inputs.split
    train = RandomViewSource(
        split.train,
        inputs.labels,
        inputs.sampling,
        inputs.preprocessing,
        Augmentation(),
        frames=frames or inputs.sampling.num_frames,
        on_clip=inputs.on_part("train", len(split.train)),
    )
    val = PixelSource(
        split.val,
        inputs.labels,
        inputs.sampling,
        inputs.preprocessing,
        on_clip=inputs.on_part("val", len(split.val)),
    )
    # Before the convolutions are taken apart: their pieces have fewer dimensions.
    backbone.to(memory_format=torch.channels_last_3d)
    originals = take_apart(trained)
    whole = nn.Sequential(_Fixed(fixed), trained, network.get_submodule("head")).to(choose_device(device))
    # What happens over time is not pretrained: the taps start as "nothing does".
    pretrained = [p for name, p in trained.named_parameters() if not name.endswith("taps")] if is_pretrained else []
    fitted = _fit(whole, pretrained, train, val, settings, on_epoch)
    put_together(trained, originals)
    return fitted


class _Fixed(nn.Module):
    """Layers that only compute."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.layers(x)


def _fit(
    network: nn.Module,
    pretrained: Collection[nn.Parameter],
    train: Source,
    val: Source,
    settings: LoopSettings,
    on_epoch: Callable[[Epoch], None],
) -> Fitted:
    precision = choose_precision(next(network.parameters()).device)
    fitted = fit(network, train, val, settings, pretrained=pretrained, precision=precision, on_epoch=on_epoch)
    logits = predict(network, val, settings.batch_size, precision=precision)
    return Fitted(fitted, fit_temperature(logits, val.targets.labels), OODCalibration.fit(logits.numpy()))


def _freeze_norms(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.requires_grad_(False)
