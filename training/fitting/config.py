"""The settings of a training, and their checks."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from tagger.classifier import DeviceName, PrecisionName, choose_precision
from tagger.errors import ModelFileError, OutputError
from tagger.models.heads import HeadName
from tagger.models.registry import ARCHITECTURES
from tagger.preprocessing import VIEWS, Preprocessing, View
from tagger.tagger import ModelSource
from tagger.windows import Sampling
from training.fitting.loop import LoopSettings
from training.inputs.clip_cache import DEFAULT_BYTES

SCRATCH = "cnn3d-lstm"
"""The model without pretrained weights."""

InputName = Literal["frames", "differences"]

RESIZED = {112: 128, 224: 256}
"""For each side of the input of the model without pretrained weights, the shorter side of the picture before the crop,
in pixels."""


@dataclass(frozen=True)
class TrainConfig:
    """The settings of ``vtag train``.

    ``model`` is the name of an architecture, ``out`` the path of the model file that is written. ``weights`` is a local
    file of pretrained weights for the backbone: a Kinetics-400 checkpoint of pytorchvideo for ``i3d-lstm``, a 2D
    ImageNet EfficientNet-Lite0 for ``i3d-lite-lstm``. ``start`` is a model of the same architecture to start from
    instead; its file fixes the options, the preprocessing and the sampling.

    The head of a pretrained backbone is first trained alone for ``head_epochs``, on features that are computed once.
    Then it is trained for ``loop.epochs`` together with the last ``train_layers`` layers of the backbone (None is all,
    0 is none), on random views of ``train_frames`` frames each (None is as many as a window has). With ``train_layers``
    0 only the head is trained, for ``loop.epochs``.

    ``input`` and ``size`` are for ``cnn3d-lstm`` from scratch: it sees ``frames``, or the ``differences`` between them
    (None), of 112×112 (None) or 224×224 pixels. ``view`` is the part of a frame that the network sees (see
    ``Preprocessing``); None is the default of the architecture.

    ``run_folder`` keeps the metrics and checkpoints (see ``training.fitting.run_folder``); without it only the model
    file is kept. An interrupted training resumes from there, unless ``restart`` is set. Decoded clips and features are
    kept in the folder ``cache``, up to ``cache_bytes``; without it only until the training ends.
    """

    model: str
    out: Path
    weights: Path | None = None
    start: ModelSource | None = None
    train_layers: int | None = None
    train_frames: int | None = None
    head_epochs: int = 8
    cache: Path | None = None
    cache_bytes: int = DEFAULT_BYTES
    head: HeadName = "lstm"
    input: InputName | None = None
    size: int | None = None
    view: View | None = None
    loop: LoopSettings = field(default_factory=LoopSettings)
    device: DeviceName = "auto"
    precision: PrecisionName = "auto"
    run_folder: Path | None = None
    restart: bool = False

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages of this training, in order."""
        pretrained = ("head",) if self.is_pretrained else ()
        return (*pretrained, *(("layers",) if self.train_layers != 0 else ()))

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that the network is built with."""
        if self.start is not None:
            return dict(self.start.info.options)
        # tests/benchmarks/ablation.py measures the gain from difference images.
        motion = {"i3d-lite-lstm": {"changes": True, "order": True}, SCRATCH: {"differences": self.input != "frames"}}
        return {"head": self.head} | motion.get(self.model, {})

    @property
    def preprocessing(self) -> Preprocessing:
        """How frames become the input of the network."""
        if self.start is not None:
            return self.start.info.preprocessing
        usual = ARCHITECTURES[self.model].preprocessing
        if self.size is not None:
            usual = replace(usual, size=self.size, resize=RESIZED[self.size])
        return usual if self.view is None else replace(usual, view=self.view)

    @property
    def sampling(self) -> Sampling:
        """The windows that the network sees."""
        return self.start.info.sampling if self.start is not None else ARCHITECTURES[self.model].samplings[0]

    @property
    def is_pretrained(self) -> bool:
        """Whether the backbone starts from pretrained weights."""
        return self.start is not None or self.model != SCRATCH


def check(config: TrainConfig) -> None:
    """Raises ModelFileError or OutputError when ``config`` is impossible, before any work starts."""
    architecture = ARCHITECTURES.get(config.model)
    if architecture is None or not architecture.is_trainable:
        trainable = ", ".join(name for name, known in ARCHITECTURES.items() if known.is_trainable)
        raise ModelFileError(f"{config.model!r} cannot be trained; choose one of {trainable}")
    if config.start is not None and config.start.info.architecture != config.model:
        raise ModelFileError(
            f"{config.start.file} is a model of {config.start.info.architecture}: the training cannot be one of "
            f"{config.model}; leave out --model, or --from"
        )
    for option in ("input", "size"):
        if config.is_pretrained and getattr(config, option) is not None:
            fixed_by = config.model if config.start is None else config.start.file
            raise ModelFileError(
                f"--{option} is for {SCRATCH} from scratch: the weights of {fixed_by} fix it; leave it out"
            )
    if config.input not in (None, "frames", "differences"):
        raise ModelFileError(f"--input {config.input}: choose frames or differences")
    if config.size not in (None, *RESIZED):
        raise ModelFileError(f"--size {config.size}: choose one of {', '.join(map(str, RESIZED))}")
    if config.view not in (None, *VIEWS):
        raise ModelFileError(f"--view {config.view}: choose one of {', '.join(VIEWS)}")
    if config.start is not None and config.view is not None:
        raise ModelFileError(f"--view {config.view}: the view of {config.start.file} is fixed; leave out --view")
    if config.loop.optimizer == "lbfgs" and (config.options.get("head") != "mean" or config.stages != ("head",)):
        raise ModelFileError(
            "--optimizer lbfgs is for --head mean on a frozen backbone; add --head mean --freeze-backbone"
        )
    check_out(config.out)
    if config.run_folder == config.out:
        raise OutputError(f"{config.out} would be both model file and run folder; name another with --run-folder")
    if not config.is_pretrained and config.train_layers is not None:
        raise ModelFileError(
            f"{config.model} starts from scratch: all of its layers must be trained; leave out --freeze-backbone and "
            "--train-layers"
        )
    if config.model == SCRATCH and config.train_layers:
        raise ModelFileError(
            f"--train-layers {config.train_layers}: {config.model} is trained as a whole, or with --freeze-backbone"
        )
    if config.train_frames == 1 and config.model in ("i3d-lstm", SCRATCH):
        raise ModelFileError(f"--train-frames 1: {config.model} sees what happens between frames; give it 2 or more")
    if config.start is not None and config.weights is not None:
        raise ModelFileError(
            "--weights and --from contradict each other: a model file has its weights; give one of them"
        )
    if not config.is_pretrained and config.weights is not None:
        raise ModelFileError(f"{config.model} is trained from scratch; --weights is for i3d-lstm and i3d-lite-lstm")


def check_out(out: Path) -> None:
    """Raises OutputError when the file ``out`` cannot be written, before hours of work are lost."""
    if not out.parent.is_dir():
        raise OutputError(f"cannot write {out}: the folder {out.parent} does not exist; create it first")
    if out.is_dir():
        raise OutputError(f"cannot write {out}: it is a folder; name a file")
    if out.exists() and not out.is_file():
        raise OutputError(f"cannot write {out}: it is no regular file; choose another name")
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"cannot write {out}: no permission to write in {out.parent}")


def training_precision(device: torch.device, precision: PrecisionName = "auto") -> torch.dtype:
    """Returns the precision of the computations.

    It is bfloat16 where the hardware multiplies it natively, else float16 on a GPU, else float32.
    """
    chosen = choose_precision(device, precision)
    is_half = precision == "auto" and chosen == torch.float32 and device.type == "cuda"
    return torch.float16 if is_half else chosen


def layers_precision(model: str, device: torch.device, precision: PrecisionName) -> PrecisionName:
    """Returns the precision in which layers of a backbone are trained: ``auto`` is float32 for ``i3d-lstm`` on a CPU.

    PyTorch 2.15 computes gradients of 3D convolutions of few large frames wrong in bfloat16 on a CPU with AMX: with
    views of 4 frames the loss was not a number. ``tagger.models.cnn3d.StackedConv3d`` avoids this in ``cnn3d-lstm``.
    """
    return "fp32" if (model, device.type, precision) == ("i3d-lstm", "cpu", "auto") else precision
