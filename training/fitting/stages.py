"""The two stages of training: first the head on features of a frozen backbone, then layers of the backbone as well.

A head with random weights sends arbitrary gradients into the backbone. They damage its pretrained weights, and a small
data set cannot repair this. A head that was trained first does not do this damage (Kumar et al., 2022,
https://arxiv.org/abs/2202.10054).
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from tagger.classifier import Classifier, DeviceName, PrecisionName, choose_device
from tagger.models.embeddings.embedder import EMBEDDER_SIZE, Embedder
from tagger.models.embeddings.embedding import normalised_features
from tagger.models.fast.fused import fuse
from tagger.models.heads import MeanHead, over_crops
from tagger.ood import OODCalibration
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from training import distributed
from training.data.data_set import Part
from training.data.splits import Split
from training.evaluation.calibration import fit_temperature
from training.fitting.config import training_precision
from training.fitting.convex import fit_convex
from training.fitting.depthwise import factorise_depthwise, restore_depthwise
from training.fitting.epochs import Epoch, Step
from training.fitting.loop import Fit, LoopSettings, fit
from training.fitting.passes import predict
from training.inputs.augment import AUGMENTATIONS
from training.inputs.clip_cache import ClipCache
from training.inputs.forms import Features, Film, Form, Windows
from training.inputs.ingest import ClipStore, IngestedClips, OnClip
from training.inputs.sources import FeatureSource, PixelSource, Source, ViewSource

EMBEDDER_WINDOWS = 1500
"""Maximum number of windows to which an embedder is fitted: four for each value of an embedding."""

MakeOnClip = Callable[[Part, int], OnClip]
"""A function that gets a part of the split and its number of clips, and returns a callback for these clips."""


@dataclass(frozen=True)
class Inputs:
    """The clips of a training, with their labels, sampling and preprocessing.

    Their arrays are kept in ``cache``; ``ingested`` are clips that are in it already.
    """

    split: Split
    labels: Sequence[str]
    sampling: Sampling
    preprocessing: Preprocessing
    cache: ClipCache
    make_on_clip: MakeOnClip
    ingested: IngestedClips | None = None

    def store(self, part: Part, form: Form) -> ClipStore:
        """Returns the clips of ``part`` of the split in ``form``."""
        clips = getattr(self.split, part)
        return ClipStore(clips, form, self.cache, on_clip=self.make_on_clip(part, len(clips)), ingested=self.ingested)


@dataclass(frozen=True)
class Stage:
    """How one stage is trained: its settings, device and precision, its checkpoint file if any, and its callbacks.

    An embedder is fitted in the last stage only.
    """

    name: str
    is_last: bool
    loop: LoopSettings
    device: DeviceName
    precision: PrecisionName
    checkpoint: Path | None
    on_step: Callable[[Step], None]
    on_epoch: Callable[[Epoch], None]
    on_resumed_epochs: Callable[[Sequence[Epoch]], None]

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the computations."""
        return training_precision(choose_device(self.device), self.precision)

    def fit(
        self,
        network: nn.Module,
        train: Source,
        val: Source,
        *,
        pretrained: Collection[nn.Parameter] = (),
        backbone: Collection[nn.Parameter] = (),
    ) -> "Fitted":
        """Trains ``network`` and calibrates it on the validation windows. For the rest see ``fit``."""
        fitted = fit(
            network,
            train,
            val,
            self.loop,
            stage=self.name,
            pretrained=pretrained,
            backbone=backbone,
            precision=self.dtype,
            checkpoint=self.checkpoint,
            on_step=self.on_step,
            on_epoch=self.on_epoch,
            on_resumed_epochs=self.on_resumed_epochs,
        )
        logits = predict(network, val, self.loop.batch_size, precision=self.dtype)
        return Fitted.calibrated(fitted, logits, val.targets.labels)

    def fit_embedder(
        self, features: Callable[[torch.Tensor], torch.Tensor], windows: int, head: nn.Module, crops: int
    ) -> Embedder | None:
        """Fits an embedder to the ``features`` of at most EMBEDDER_WINDOWS of the ``windows``.

        Returns None in all workers but the first, and when this is not the last stage.
        """
        if not self.is_last or distributed.rank() > 0:
            return None
        drawn = torch.randperm(windows, generator=torch.Generator().manual_seed(self.loop.seed))[:EMBEDDER_WINDOWS]
        with torch.no_grad():
            batches = [normalised_features(features(batch), crops).cpu() for batch in drawn.split(self.loop.batch_size)]
        used = head.dense.weight.cpu() if isinstance(head, MeanHead) else None
        return Embedder.fit(torch.cat(batches), EMBEDDER_SIZE, used)


@dataclass(frozen=True)
class Fitted:
    """The result of a stage: its epochs, the temperature of its confidences, and its calibration for OOD scores.

    The last stage of the first worker also has the ``embedder``.
    """

    fit: Fit
    temperature: float
    ood: OODCalibration
    embedder: Embedder | None = None

    @classmethod
    def calibrated(cls, fit: Fit, logits: torch.Tensor, labels: torch.Tensor) -> "Fitted":
        """Fits temperature and OOD scores to the logits ``[n, classes]`` of windows that were not trained on."""
        temperature = fit_temperature(logits, labels)
        return cls(fit, temperature, OODCalibration.fit((logits / temperature).numpy()))


def head_forms(
    network: nn.Module,
    sampling: Sampling,
    preprocessing: Preprocessing,
    device: DeviceName,
    precision: PrecisionName = "auto",
) -> dict[Part, Form]:
    """Returns the forms in which ``fit_head`` takes the clips of training and validation.

    The backbone computes the features on ``device`` in ``precision``, as in the tagger.
    """
    # A copy, because the classifier changes the precision and the memory format of its layers.
    parts = nn.ModuleDict({"backbone": copy.deepcopy(network.get_submodule("backbone")), "head": nn.Identity()})
    backbone = Classifier(parts, preprocessing, device=device, precision=precision)
    return {
        "train": Features(sampling, preprocessing, backbone, mirrored=True),
        "val": Features(sampling, preprocessing, backbone, mirrored=False),
    }


def layer_forms(sampling: Sampling, preprocessing: Preprocessing) -> dict[Part, Form]:
    """Returns the forms in which ``fit_layers`` takes the clips of training and validation."""
    return {"train": Film(sampling, preprocessing), "val": Windows(sampling, preprocessing)}


def fit_head(network: nn.Module, inputs: Inputs, stage: Stage) -> Fitted:
    """Trains the head of ``network`` on features of its backbone, which are computed once."""
    forms = head_forms(network, inputs.sampling, inputs.preprocessing, stage.device, stage.precision)
    train, val = (FeatureSource(inputs.store(part, form), inputs.labels) for part, form in forms.items())
    head = network.get_submodule("head")
    crops = inputs.preprocessing.crops
    whole = over_crops(head, inputs.preprocessing).to(choose_device(stage.device))
    if stage.loop.optimizer == "lbfgs":
        assert isinstance(head, MeanHead)
        settings, on_epoch = stage.loop, stage.on_epoch
        found = fit_convex(head, train, val, settings, crops=crops, stage=stage.name, on_epoch=on_epoch)
        fitted = Fitted.calibrated(*found)
    else:
        fitted = stage.fit(whole, train, val)
    windows = len(train.targets.labels)
    embedder = stage.fit_embedder(lambda items: train.inputs(items, None), windows, head, crops)
    return replace(fitted, embedder=embedder)


def fit_layers(
    network: nn.Module,
    inputs: Inputs,
    stage: Stage,
    *,
    train_layers: int | None,
    frames: int | None,
    is_pretrained: bool,
    has_trained_taps: bool = False,
) -> Fitted:
    """Trains the last ``train_layers`` layers of the backbone (None is all) and the head, on random views.

    ``frames`` is the number of frames of a view; None is that of a window. With ``is_pretrained`` the backbone learns
    at the rate for pretrained layers. With ``has_trained_taps`` so do its weights over time.
    """
    backbone = network.get_submodule("backbone")
    trainable: nn.Module = backbone
    fixed = nn.Sequential()
    if train_layers is not None:
        assert isinstance(backbone, nn.Sequential)
        named = list(backbone.named_children())
        # The last layer only pools and has nothing to train.
        first = max(0, len(named) - 1 - train_layers)
        fixed, trainable = nn.Sequential(OrderedDict(named[:first])), nn.Sequential(OrderedDict(named[first:]))
    if is_pretrained:
        _freeze_norms(trainable)
    forms = layer_forms(inputs.sampling, inputs.preprocessing)
    preprocessing = inputs.preprocessing
    frames = frames or inputs.sampling.num_frames
    films, windows = (inputs.store(part, form) for part, form in forms.items())
    train = ViewSource(films, inputs.labels, preprocessing, AUGMENTATIONS[preprocessing.view], frames=frames)
    val = PixelSource(windows, inputs.labels, preprocessing)
    # Before the convolutions are factorised, because their factors have fewer dimensions.
    backbone.to(memory_format=torch.channels_last_3d)
    originals = factorise_depthwise(trainable)
    device = choose_device(stage.device)
    layers = nn.Sequential(_FrozenLayers(fixed, stage.dtype, device), trainable, network.get_submodule("head"))
    whole = over_crops(layers, preprocessing).to(device)
    pretrained = [
        parameter
        for name, parameter in trainable.named_parameters()
        # In a network that has just been inflated, the weights over time start as the identity.
        if is_pretrained and (has_trained_taps or not name.endswith("taps"))
    ]
    start = list(trainable.parameters()) if is_pretrained else []
    fitted = stage.fit(whole, train, val, pretrained=pretrained, backbone=start)

    def features(items: torch.Tensor) -> torch.Tensor:
        inputs = val.inputs(items, None).to(device)
        with torch.autocast(device.type, dtype=stage.dtype, enabled=stage.dtype != torch.float32):
            if preprocessing.crops == 1:
                return layers[:2](inputs)
            return layers[:2](inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])

    embedder = stage.fit_embedder(features, len(val.targets.labels), layers[2], preprocessing.crops)
    restore_depthwise(trainable, originals)
    return replace(fitted, embedder=embedder)


class _FrozenLayers(nn.Module):
    """Frozen layers, which compute as in the tagger.

    They are not submodules, so checkpoints do not have their weights. Each worker builds them in the precision of its
    own hardware, also when it resumes.
    """

    def __init__(self, layers: nn.Sequential, precision: torch.dtype, device: torch.device):
        super().__init__()
        fused = [fuse(copy.deepcopy(layer).eval()) for layer in layers]
        self._layers = [layer.to(device, precision).to(memory_format=torch.channels_last_3d) for layer in fused]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            for layer in self._layers:
                x = layer(x)
        return x


def _freeze_norms(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.requires_grad_(False)
