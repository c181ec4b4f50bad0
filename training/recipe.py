"""From a folder of labelled clips to a model file."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tagger
from tagger.classifier import DeviceName
from tagger.errors import ModelFileError, OutputError
from tagger.model_file import ModelInfo, save_model_file
from tagger.models import ARCHITECTURES, build_network
from tagger.models.heads import HeadName
from tagger.tagger import load_model
from tagger.windows import Sampling
from training.data_set import DataSet, LabelledClip, Part
from training.evaluate import Evaluation, evaluate_clips
from training.fitting import Inputs, fit_head, fit_layers
from training.loop import Epoch, LoopSettings
from training.sources import OnClip
from training.splits import Split


@dataclass(frozen=True)
class TrainConfig:
    """What ``vtag train`` was asked to do.

    ``weights`` is a local file of pretrained weights for the backbone: a Kinetics-400 checkpoint of pytorchvideo for
    ``i3d-lstm``, a 2D ImageNet EfficientNet-Lite0 for ``i3d-lite-lstm``. The head of a pretrained backbone is first
    trained alone for ``head_epochs``, on features that are computed once, and kept in the folder ``cache`` when one is
    given. Then ``train_layers`` layers at the end of the backbone are trained with it for ``loop.epochs``, None being
    all and 0 none, on random views of ``train_frames`` frames each, None being as many as a window has.
    """

    model: str
    out: Path
    weights: Path | None = None
    train_layers: int | None = None
    train_frames: int | None = None
    head_epochs: int = 8
    cache: Path | None = None
    head: HeadName = "lstm"
    loop: LoopSettings = field(default_factory=LoopSettings)
    device: DeviceName = "auto"


@dataclass(frozen=True)
class Stage:
    """Progress through the clips of one part: reading them, and computing features when the backbone is frozen."""

    part: Part
    done: int
    total: int
    unreadable: str | None = None


OnStage = Callable[[Stage], None]
OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class TrainResult:
    """A trained model: where it is, its best epoch, and what it scored on the held-out groups."""

    out: Path
    epochs: tuple[Epoch, ...]
    best_epoch: int
    temperature: float
    evaluation: Evaluation


def train(
    data: DataSet,
    split: Split,
    config: TrainConfig,
    *,
    on_stage: OnStage = lambda stage: None,
    on_epoch: OnEpoch = lambda epoch: None,
) -> TrainResult:
    """Trains a model on ``split.train``, keeps the best epoch by ``split.val``, and writes the model file.

    The scores are those of the written file, read back, on ``split.test``. Clips that cannot be read are skipped and
    reported through ``on_stage``. Raises DataSetError, WeightsError, ModelFileError or OutputError.
    """
    architecture = ARCHITECTURES.get(config.model)
    if architecture is None or not architecture.is_trainable:
        trainable = ", ".join(name for name, known in ARCHITECTURES.items() if known.is_trainable)
        raise ModelFileError(f"{config.model!r} cannot be trained; choose one of {trainable}")
    check_out(config.out)
    sampling, preprocessing = Sampling(), architecture.preprocessing
    torch.manual_seed(config.loop.seed)
    options = {"head": config.head}
    network = build_network(config.model, len(data.labels), options)
    is_pretrained = load_backbone(network, config.model, config.weights)
    if config.train_layers is not None and not is_pretrained:
        raise ModelFileError(
            f"{config.model} starts from scratch: layers that are not trained would never learn anything"
        )
    inputs = Inputs(split, data.labels, sampling, preprocessing, partial(clip_counter, on_stage=on_stage))
    if is_pretrained:
        epochs = config.loop.epochs if config.train_layers == 0 else config.head_epochs
        loop = replace(config.loop, epochs=epochs)
        fitted = fit_head(network, inputs, loop, config.device, cache=config.cache, on_epoch=on_epoch)
    if config.train_layers != 0:
        fitted = fit_layers(
            network,
            inputs,
            config.loop,
            config.device,
            train_layers=config.train_layers,
            frames=config.train_frames,
            is_pretrained=is_pretrained,
            on_epoch=on_epoch,
        )
    best = fitted.fit.epochs[fitted.fit.best - 1]
    info = ModelInfo(
        architecture=config.model,
        labels=data.labels,
        sampling=sampling,
        preprocessing=preprocessing,
        temperature=fitted.temperature,
        options=options,
        training=_description(data, split, config, best, is_pretrained),
        ood=fitted.ood,
    )
    weights = {name: _half(tensor) for name, tensor in network.state_dict().items()}
    save_model_file(config.out, info, weights)
    # What is scored is the file as anyone will load it, through the tagger's own path.
    evaluation = evaluate_clips(
        load_model(str(config.out), device=config.device),
        split.test,
        on_clip=clip_counter("test", len(split.test), on_stage=on_stage),
    )
    save_model_file(config.out, replace(info, scores={"split": "test", **evaluation.to_json()}), weights)
    return TrainResult(config.out, fitted.fit.epochs, fitted.fit.best, fitted.temperature, evaluation)


def check_out(out: Path) -> None:
    """Raises OutputError when the file ``out`` cannot be written, which is better known before than after hours."""
    if not out.parent.is_dir():
        raise OutputError(f"cannot write {out}: the folder {out.parent} does not exist; create it first")
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"cannot write {out}: no permission to write in {out.parent}")


def load_backbone(network: nn.Module, model: str, weights: Path | None) -> bool:
    """Loads pretrained weights into the backbone of ``network``; False for a model that starts from scratch."""
    match model:
        case "i3d-lstm":
            from tagger.models.i3d import load_kinetics_backbone
            from tagger.models.weights import kinetics_weights

            load_kinetics_backbone(network, kinetics_weights(weights))
            return True
        case "i3d-lite-lstm":
            from tagger.models.i3d_lite import imagenet_weights, inflate

            network.get_submodule("backbone").load_state_dict(inflate(imagenet_weights(weights)))
            return True
    if weights is not None:
        raise ModelFileError(f"{model} is trained from scratch; --weights is for i3d-lstm and i3d-lite-lstm")
    return False


def clip_counter(part: Part, total: int, *, on_stage: OnStage) -> OnClip:
    """A callback that counts clips and reports each as a ``Stage`` of ``part``."""
    done = 0

    def on_clip(clip: LabelledClip, problem: str | None) -> None:
        nonlocal done
        done += 1
        on_stage(Stage(part, done, total, problem))

    return on_clip


def _half(tensor: torch.Tensor) -> torch.Tensor:
    """Matrices and kernels in float16: half the file, and finer than the bfloat16 that backbones mostly run in."""
    return tensor.half() if tensor.is_floating_point() and tensor.ndim >= 2 else tensor


def _description(data: DataSet, split: Split, config: TrainConfig, best: Epoch, is_pretrained: bool) -> dict[str, Any]:
    return {
        "data": data.root.name,
        "clips": {part: len(getattr(split, part)) for part in ("train", "val", "test")},
        "grouped_by": dict(data.grouped_by),
        "groups": {part: split.groups(part) for part in ("val", "test")},
        "train_layers": "all" if config.train_layers is None else config.train_layers,
        "train_frames": None if config.train_layers == 0 else config.train_frames or Sampling().num_frames,
        "head_epochs": config.head_epochs if is_pretrained and config.train_layers != 0 else None,
        "settings": asdict(config.loop),
        "best_epoch": asdict(best),
        "date": datetime.now(UTC).date().isoformat(),
        "vtag": tagger.__version__,
        "torch": torch.__version__,
    }
