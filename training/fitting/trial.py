"""Trains models only to measure scores, on a random split or on folds. The models are not kept."""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tagger.model_file import read_model_info
from training.data.data_set import DataSet
from training.data.folds import Fold
from training.evaluation.evaluate import Evaluation
from training.fitting.config import TrainConfig
from training.fitting.recipe import train
from training.fitting.run_folder import FOLDS, RunFolder
from training.fitting.watch import Reading, Watch


@dataclass(frozen=True)
class FoldResult:
    """The evaluation, on ``groups``, of a model that was trained without them, and the errors of unreadable clips.

    ``epochs`` are those of all stages, as a model file has them.
    """

    groups: tuple[str, ...]
    best_epoch: int
    evaluation: Evaluation
    unreadable: tuple[str, ...]
    epochs: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The names of the groups, joined by ``+``."""
        return "+".join(self.groups)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a score over folds."""

    mean: float
    deviation: float


def trial_config(config: TrainConfig, name: str) -> TrainConfig:
    """Returns ``config`` for a trial called ``name``, with its own folder inside the run folder and the same cache.

    Its ``restart`` is off: a restart of the run it belongs to has already removed the folder of the trial.
    """
    assert config.run_folder is not None
    run = RunFolder(config.run_folder / name)
    run.path.mkdir(parents=True, exist_ok=True)
    cache = config.cache or RunFolder(config.run_folder).cache
    return replace(config, out=run.model, run_folder=run.path, cache=cache, restart=False)


def train_fold(data: DataSet, fold: Fold, config: TrainConfig) -> FoldResult:
    """Trains and evaluates the model of one fold.

    With a run folder, its checkpoints stay in the sub-folder ``folds`` until the run is finished or restarted.
    """
    unreadable: dict[str, None] = {}

    def on_reading(reading: Reading) -> None:
        if reading.unreadable:
            unreadable[reading.unreadable] = None

    with tempfile.TemporaryDirectory(prefix="vtag-") as folder:
        temporary = replace(config, out=Path(folder) / "fold.safetensors")
        config = trial_config(config, f"{FOLDS}/{fold.number:02}") if config.run_folder else temporary
        result = train(data, fold.split, config, watch=Watch(on_reading), finish=False)
        epochs = tuple(read_model_info(result.out).training["epochs"])
    return FoldResult(fold.groups, result.best_epoch, result.evaluation, tuple(unreadable), epochs)


def spread(scores: Sequence[float]) -> Spread:
    """Returns the mean and the sample standard deviation, which is 0 for a single score."""
    return Spread(statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0)


def folds_json(results: Sequence[FoldResult]) -> dict[str, Any]:
    """Returns the results of all folds, JSON-ready."""
    return {
        "split": "leave one group out",
        "video_accuracy": asdict(spread([result.evaluation.videos.accuracy for result in results])),
        "window_accuracy": asdict(spread([result.evaluation.windows.accuracy for result in results])),
        "folds": [
            {
                "groups": result.groups,
                "best_epoch": result.best_epoch,
                **result.evaluation.to_json(),
                "unreadable": result.unreadable,
            }
            for result in results
        ],
    }
