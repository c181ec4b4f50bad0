"""From a folder of labelled clips to a model file."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from tagger.classifier import Classifier, DeviceName, choose_device, choose_precision
from tagger.errors import ModelFileError, OutputError
from tagger.model_file import ModelInfo, save_model_file
from tagger.models import ARCHITECTURES, build_network
from tagger.models.heads import HeadName
from tagger.tagger import load_model
from tagger.windows import Sampling
from training.calibration import fit_temperature
from training.data_set import DataSet, LabelledClip
from training.decoding import DecodedClip, decode_clips
from training.evaluate import Evaluation, evaluate_clips
from training.loop import Epoch, LoopSettings, fit, predict
from training.sources import FeatureSource, PixelSource
from training.splits import Split


@dataclass(frozen=True)
class TrainConfig:
    """What ``vtag train`` was asked to do.

    ``weights`` is a local file of pretrained weights for the backbone: a Kinetics-400 checkpoint of pytorchvideo for
    ``i3d-lstm``, a 2D ImageNet EfficientNet-Lite0 for ``i3d-lite-lstm``. With ``freeze_backbone`` only the head is
    trained, on features computed once.
    """

    model: str
    out: Path
    weights: Path | None = None
    freeze_backbone: bool = False
    head: HeadName = "lstm"
    loop: LoopSettings = field(default_factory=LoopSettings)
    device: DeviceName = "auto"


@dataclass(frozen=True)
class Stage:
    """Progress through the clips of one part: reading them, and computing features when the backbone is frozen."""

    part: Literal["train", "val", "test"]
    done: int
    total: int
    unreadable: str | None = None


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
    on_stage: Callable[[Stage], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> TrainResult:
    """Trains a model on ``split.train``, keeps the best epoch by ``split.val``, and writes the model file.

    The scores are those of the written file, read back, on ``split.test``. Clips that cannot be read are skipped and
    reported through ``on_stage``. Raises DataSetError, WeightsError, ModelFileError or OutputError.
    """
    architecture = ARCHITECTURES.get(config.model)
    if architecture is None or not architecture.is_trainable:
        trainable = ", ".join(name for name, known in ARCHITECTURES.items() if known.is_trainable)
        raise ModelFileError(f"{config.model!r} cannot be trained; choose one of {trainable}")
    if not config.out.parent.is_dir():
        raise OutputError(f"cannot write {config.out}: the folder {config.out.parent} does not exist; create it first")
    sampling, preprocessing = Sampling(), architecture.preprocessing
    torch.manual_seed(config.loop.seed)
    options = {"head": config.head}
    network = build_network(config.model, len(data.labels), options)
    is_pretrained = load_backbone(network, config.model, config.weights)
    if config.freeze_backbone and not is_pretrained:
        raise ModelFileError(f"{config.model} starts from scratch: a frozen backbone would never learn anything")
    device = choose_device(config.device)

    def decoded(part: Literal["train", "val"]) -> tuple[Iterable[DecodedClip], Callable[[DecodedClip], None]]:
        clips: tuple[LabelledClip, ...] = getattr(split, part)
        return decode_clips(clips, sampling, preprocessing), clip_counter(part, len(clips), on_stage)

    if config.freeze_backbone:
        classifier = Classifier(network, preprocessing, device=config.device)
        trained: nn.Module = network.get_submodule("head")
        trained.requires_grad_(True)
        train_clips, on_train = decoded("train")
        val_clips, on_val = decoded("val")
        train_source: FeatureSource | PixelSource
        val_source: FeatureSource | PixelSource
        train_source = FeatureSource(train_clips, data.labels, classifier, mirrored=True, on_clip=on_train)
        val_source = FeatureSource(val_clips, data.labels, classifier, mirrored=False, on_clip=on_val)
        precision = torch.float32  # The head is small, and the tagger runs it in float32 too.
    else:
        trained = network.to(device).to(memory_format=torch.channels_last_3d)
        if is_pretrained:
            _freeze_norms(network.get_submodule("backbone"))
        train_clips, on_train = decoded("train")
        val_clips, on_val = decoded("val")
        train_source = PixelSource(train_clips, data.labels, preprocessing, on_clip=on_train)
        val_source = PixelSource(val_clips, data.labels, preprocessing, on_clip=on_val)
        precision = choose_precision(device)
    fitted = fit(trained, train_source, val_source, config.loop, precision=precision, on_epoch=on_epoch)
    temperature = fit_temperature(
        predict(trained, val_source, config.loop.batch_size, precision=precision), val_source.targets.labels
    )
    info = ModelInfo(
        architecture=config.model,
        labels=data.labels,
        sampling=sampling,
        preprocessing=preprocessing,
        temperature=temperature,
        options=options,
        training=_description(data, split, config, fitted.epochs[fitted.best - 1]),
    )
    weights = {name: _half(tensor) for name, tensor in network.state_dict().items()}
    save_model_file(config.out, info, weights)
    # What is scored is the file as anyone will load it, through the tagger's own path.
    evaluation = evaluate_clips(
        load_model(str(config.out), device=config.device),
        split.test,
        on_clip=clip_counter("test", len(split.test), on_stage),
    )
    save_model_file(config.out, replace(info, scores={"split": "test", **evaluation.to_json()}), weights)
    return TrainResult(config.out, fitted.epochs, fitted.best, temperature, evaluation)


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


def clip_counter(
    part: Literal["train", "val", "test"], total: int, on_stage: Callable[[Stage], None]
) -> Callable[[DecodedClip], None]:
    """A callback that counts decoded clips and reports each as a ``Stage`` of ``part``."""
    done = 0

    def on_clip(clip: DecodedClip) -> None:
        nonlocal done
        done += 1
        on_stage(Stage(part, done, total, clip.end.error if clip.end.status == "failed" else None))

    return on_clip


def _freeze_norms(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.requires_grad_(False)


def _half(tensor: torch.Tensor) -> torch.Tensor:
    """Matrices and kernels in float16, which is finer than the bfloat16 they are computed in; the rest as it is."""
    return tensor.half() if tensor.is_floating_point() and tensor.ndim >= 2 else tensor


def _description(data: DataSet, split: Split, config: TrainConfig, best: Epoch) -> dict[str, Any]:
    return {
        "data": data.root.name,
        "clips": {part: len(getattr(split, part)) for part in ("train", "val", "test")},
        "grouped_by": data.grouped_by,
        "groups": {part: split.groups(part) for part in ("val", "test")},
        "freeze_backbone": config.freeze_backbone,
        "settings": asdict(config.loop),
        "best_epoch": asdict(best),
        "date": datetime.now(UTC).date().isoformat(),
        "vtag": version("vtag"),
        "torch": torch.__version__,
    }
