"""Trains a model on labelled clips, evaluates it, and writes the model file."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

import tagger
from tagger.classifier import choose_device, limit_threads
from tagger.errors import OutputError
from tagger.file_content import file_hash
from tagger.model_file import EmbeddingSpace, ModelInfo, save_model_file
from tagger.models.embeddings.embedding import EMBEDDING_VERSION
from tagger.models.registry import build_network
from tagger.tagger import ModelSource, load_model
from training import distributed
from training.data.data_set import PARTS, DataSet, LabelledClip
from training.data.splits import Split
from training.evaluation.evaluate import Evaluation, evaluate_clips
from training.fitting.config import TrainConfig, check, layers_precision
from training.fitting.epochs import Epoch
from training.fitting.run_folder import Recorder, RunFolder
from training.fitting.stages import Fitted, Inputs, Stage, fit_head, fit_layers
from training.fitting.start import keeps_head, load_start
from training.fitting.watch import Watch, clip_counter
from training.inputs.clip_cache import ClipCache, large_folder
from training.inputs.ingest import IngestedClips


@dataclass(frozen=True)
class TrainResult:
    """A trained model: its file, the epochs of its last stage, the best of them, and its scores on the test clips.

    The temperature and the out-of-distribution scores are calibrated on validation windows. ``calibrated_on`` is the
    number of these windows, or 1000 if there are more: the model file keeps at most 1000 energies.
    """

    out: Path
    epochs: tuple[Epoch, ...]
    best_epoch: int
    temperature: float
    calibrated_on: int
    evaluation: Evaluation


@dataclass(frozen=True)
class Trained:
    """A trained network, the result of its last stage, and the epochs of all stages."""

    network: nn.Module
    fitted: Fitted
    epochs: tuple[Epoch, ...]


def train(
    data: DataSet, split: Split, config: TrainConfig, *, watch: Watch | None = None, finish: bool = True
) -> TrainResult:
    """Trains a model on ``split.train``, keeps the best epoch by ``split.val``, and writes the model file.

    The written file is read back and evaluated on ``split.test``. Unreadable clips are skipped and reported to
    ``watch``. Without ``finish`` the run folder keeps its checkpoints. Raises DataSetError, WeightsError,
    ModelFileError, TrainingError or OutputError.
    """
    check(config)
    limit_threads()
    with open_run(data, split, config) as run, open_cache(config) as cache:
        trained = fit_network(data, split, config, starting_network(config, data.labels), cache, run, watch)
        assert trained is not None
        model_file = run.model if run is not None else config.out
        result = write_model_file(model_file, data, split, config, trained, watch)
        publish(model_file, config.out)
        if run is not None and finish:
            run.finish()
    return result


@contextmanager
def open_cache(config: TrainConfig) -> Iterator[ClipCache]:
    """Opens the cache of a training: in ``config.cache``, else in the run folder, else in a temporary folder."""
    with ExitStack() as stack:
        folder = config.cache or (config.run_folder and RunFolder(config.run_folder).cache)
        if folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="vtag-", dir=large_folder())))
        yield ClipCache(folder, config.cache_bytes)


def open_run(
    data: DataSet, split: Split, config: TrainConfig, *, workers: int = 1
) -> AbstractContextManager[RunFolder | None]:
    """Opens the run folder of a training in this process; None when ``config`` has none."""
    if config.run_folder is None:
        return nullcontext()
    clips: dict[str, Sequence[LabelledClip]] = {part: getattr(split, part) for part in PARTS}
    # The requested device, not the chosen one: a driver may lack the devices of its workers.
    requested = {"device": config.device, "precision": config.precision}
    return begin_run(config, clips, labels=len(data.labels), workers=workers, **requested)


def begin_run(
    config: TrainConfig, clips: Mapping[str, Sequence[LabelledClip]], **extra_settings: Any
) -> AbstractContextManager[RunFolder]:
    """Opens the run folder of a training. An unfinished run is resumed, a new one begins otherwise.

    It can be resumed only with the same ``config``, ``clips`` of each part and ``extra_settings``.
    """
    assert config.run_folder is not None
    settings = {
        "model": config.model,
        "weights": config.weights and file_hash(config.weights),
        "from": config.start and config.start.hash,
        "options": config.options,
        "size": config.preprocessing.size,
        "view": config.preprocessing.view,
        "train_layers": config.train_layers,
        "train_frames": config.train_frames,
        "head_epochs": config.head_epochs,
        **asdict(config.loop),
        "clips": {part: _fingerprint(of_part) for part, of_part in clips.items()},
        "vtag": tagger.__version__,
        **extra_settings,
    }
    return RunFolder.open(config.run_folder, settings, restart=config.restart)


def starting_network(config: TrainConfig, labels: Sequence[str]) -> nn.Module:
    """Builds the network for ``labels`` before training, with the weights that it starts from."""
    torch.manual_seed(config.loop.seed)
    network = build_network(config.model, len(labels), config.options)
    if config.start is not None:
        load_start(network, config.start, labels)
    else:
        load_backbone(network, config.model, config.weights)
    return network


def fit_network(
    data: DataSet,
    split: Split,
    config: TrainConfig,
    network: nn.Module,
    cache: ClipCache,
    run: RunFolder | None,
    watch: Watch | None = None,
    ingested: IngestedClips | None = None,
) -> Trained | None:
    """Trains ``network`` in all of its stages. Each of several workers calls this; only the first gets a result.

    Resumes from the checkpoints of ``run``. ``ingested`` are clips that are in the cache already.
    """
    is_first = distributed.rank() == 0
    watch = watch if watch is not None and is_first else Watch()
    recorder = Recorder(run) if run is not None and is_first else None
    epochs: list[Epoch] = []

    def record(epoch: Epoch) -> None:
        epochs.append(epoch)
        if recorder is not None:
            recorder.record(epoch)

    def on_epoch(epoch: Epoch) -> None:
        record(epoch)
        watch.on_epoch(epoch)

    def on_resumed_epochs(done: Sequence[Epoch]) -> None:
        for epoch in done:
            record(epoch)
        watch.on_resume(done[-1])

    inputs = Inputs(
        split,
        data.labels,
        config.sampling,
        config.preprocessing,
        cache,
        partial(clip_counter, on_reading=watch.on_reading),
        ingested,
    )
    device = choose_device(config.device)
    for name in config.stages:
        is_last = name == config.stages[-1]
        stage = Stage(
            name,
            is_last,
            config.loop if is_last else replace(config.loop, epochs=config.head_epochs),
            config.device,
            config.precision if name == "head" else layers_precision(config.model, device, config.precision),
            None if run is None else run.checkpoint(name),
            watch.on_step,
            on_epoch,
            on_resumed_epochs,
        )
        fitted = _fit_stage(network, inputs, stage, config)
    if recorder is not None:
        recorder.close()
    return Trained(network, fitted, tuple(epochs)) if is_first else None


def _fit_stage(network: nn.Module, inputs: Inputs, stage: Stage, config: TrainConfig) -> Fitted:
    if stage.name == "head":
        return fit_head(network, inputs, stage)
    return fit_layers(
        network,
        inputs,
        stage,
        train_layers=config.train_layers,
        frames=config.train_frames,
        is_pretrained=config.is_pretrained,
        has_trained_taps=config.start is not None,
    )


def write_model_file(
    path: Path, data: DataSet, split: Split, config: TrainConfig, trained: Trained, watch: Watch | None = None
) -> TrainResult:
    """Writes the model file ``path``, evaluates it with the tagger in the precision of the training, and writes the
    scores into the file."""
    fitted = trained.fitted
    assert fitted.embedder is not None
    trained.network.embedder = fitted.embedder
    weights = {name: _half(tensor) for name, tensor in trained.network.state_dict().items()}
    info = ModelInfo(
        architecture=config.model,
        labels=data.labels,
        sampling=config.sampling,
        preprocessing=config.preprocessing,
        temperature=fitted.temperature,
        options=config.options,
        training=_training_metadata(data, split, config, trained),
        ood=fitted.ood,
        embedding=EmbeddingSpace(
            fitted.embedder.size,
            len(fitted.embedder.mean),
            _space({"sampling": config.sampling.to_json(), "preprocessing": asdict(config.preprocessing)}, weights),
        ),
    )
    save_model_file(path, info, weights)
    on_clip = clip_counter("test", len(split.test), on_reading=(watch or Watch()).on_reading)
    trained_tagger = load_model(str(path), device=config.device, precision=config.precision)
    kept = ClipCache(config.cache, config.cache_bytes) if config.cache else None
    evaluation = evaluate_clips(trained_tagger, split.test, on_clip=on_clip, cache=kept)
    save_model_file(path, replace(info, scores={"split": "test", **evaluation.to_json()}), weights)
    calibrated_on = len(fitted.ood.energies)
    return TrainResult(config.out, fitted.fit.epochs, fitted.fit.best, fitted.temperature, calibrated_on, evaluation)


def publish(source: Path, out: Path) -> None:
    """Copies the finished model file ``source`` to ``out``, atomically. Raises OutputError."""
    if source == out:
        return
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(out)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot write {out}: {reason}; the finished model is {source}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_backbone(network: nn.Module, model: str, weights: Path | None) -> None:
    """Loads pretrained weights into the backbone of ``network``, unless its model starts from scratch."""
    match model:
        case "i3d-lstm":
            from tagger.models.kinetics import I3D_WEIGHTS
            from tagger.models.model_zoo import I3D_CHECKPOINT
            from tagger.models.weights import find_weights

            I3D_CHECKPOINT.load_backbone(network, find_weights(I3D_WEIGHTS, weights))
        case "i3d-lite-lstm":
            from tagger.models.i3d_lite import imagenet_weights, inflate

            where = f" in {weights}" if weights else ""
            network.get_submodule("backbone").load_state_dict(inflate(imagenet_weights(weights), where))


def _fingerprint(clips: Sequence[LabelledClip]) -> str:
    """Returns a short hash of the clips and of the versions (size and mtime) of their files."""
    digest = hashlib.sha256()
    for clip in clips:
        try:
            stat = clip.path.stat()
            version = [stat.st_size, stat.st_mtime_ns]
        except OSError:
            version = []
        digest.update(repr([str(clip.path), clip.label, clip.group, clip.start_s, clip.end_s, *version]).encode())
    return digest.hexdigest()[:16]


def _half(tensor: torch.Tensor) -> torch.Tensor:
    """Converts matrices and kernels to float16.

    This halves the file, and float16 is finer than bfloat16, in which backbones mostly run.
    """
    return tensor.half() if tensor.is_floating_point() and tensor.ndim >= 2 else tensor


def _space(settings: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> str:
    """Returns the name of a space of embeddings: a hash of all that an embedding is computed from."""
    digest = hashlib.sha256(json.dumps([EMBEDDING_VERSION, settings], sort_keys=True).encode())
    for name in sorted(weights):
        if name.startswith(("backbone.", "embedder.")):
            digest.update(name.encode() + weights[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _start_metadata(start: ModelSource, labels: Sequence[str]) -> dict[str, str]:
    return {
        "model": start.name,
        "sha256": start.hash,
        "weights": "backbone and head" if keeps_head(start, labels) else "backbone",
    }


def _training_metadata(data: DataSet, split: Split, config: TrainConfig, trained: Trained) -> dict[str, Any]:
    fit = trained.fitted.fit
    # Numbered across all stages.
    epochs = [{**asdict(epoch), "number": number} for number, epoch in enumerate(trained.epochs, 1)]
    start = config.start
    return {
        "data": data.root.name,
        **({} if start is None else {"from": _start_metadata(start, data.labels)}),
        "clips": {part: len(getattr(split, part)) for part in PARTS},
        "grouped_by": dict(data.grouped_by),
        "groups": {part: split.groups(part) for part in ("val", "test")},
        "train_layers": "all" if config.train_layers is None else config.train_layers,
        "train_frames": None if config.train_layers == 0 else config.train_frames or config.sampling.num_frames,
        "head_epochs": config.head_epochs if len(config.stages) > 1 else None,
        "settings": asdict(config.loop),
        # ``fit.best`` counts within the last stage.
        "best_epoch": epochs[len(epochs) - len(fit.epochs) + fit.best - 1],
        "epochs": epochs,
        "date": datetime.now(UTC).date().isoformat(),
        "vtag": tagger.__version__,
        "torch": torch.__version__,
    }
