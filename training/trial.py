"""Trainings whose scores are wanted, not their models: of a split that is only compared, and of folds."""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.config import TrainConfig
from training.data_set import DataSet
from training.evaluate import Evaluation
from training.folds import Fold
from training.recipe import TrainResult, train
from training.splits import Split
from training.watch import Reading, Watch


@dataclass(frozen=True)
class FoldResult:
    """What the model that never saw ``groups`` scored on them, and the clips that could not be read, with reasons."""

    groups: tuple[str, ...]
    best_epoch: int
    evaluation: Evaluation
    unreadable: tuple[str, ...]

    @property
    def name(self) -> str:
        """The groups in one word."""
        return "+".join(self.groups)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a score over folds."""

    mean: float
    deviation: float


def run_trial(data: DataSet, split: Split, config: TrainConfig, *, watch: Watch | None = None) -> TrainResult:
    """Trains and scores a model as ``train`` does, but does not keep it; ``config.out`` is not used."""
    with tempfile.TemporaryDirectory(prefix="vtag-") as folder:
        return train(data, split, replace(config, out=Path(folder) / "trial.safetensors"), watch=watch)


def train_fold(data: DataSet, fold: Fold, config: TrainConfig) -> FoldResult:
    """Trains and judges the model of one fold, as ``run_trial`` does."""
    unreadable: dict[str, None] = {}

    def on_reading(reading: Reading) -> None:
        if reading.unreadable:
            unreadable[reading.unreadable] = None

    result = run_trial(data, fold.split, config, watch=Watch(on_reading))
    return FoldResult(fold.groups, result.best_epoch, result.evaluation, tuple(unreadable))


def spread(scores: Sequence[float]) -> Spread:
    """Mean and sample standard deviation; the latter is 0 for a single score."""
    return Spread(statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0)


def folds_json(results: Sequence[FoldResult]) -> dict[str, Any]:
    """The results of all folds as JSON."""
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
