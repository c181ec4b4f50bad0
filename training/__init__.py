"""Training and evaluation of models: labelled data sets, splits, the training loop, metrics."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.data.background import add_background
    from training.data.data_set import DataSet, LabelledClip, leave_out
    from training.data.duplicates import find_identical
    from training.data.folds import Fold, leave_one_group_out
    from training.data.inventory import Inventory, take_inventory
    from training.data.reading import read_data_set
    from training.data.splits import Split, split_as_given, split_at_random, split_by_group
    from training.data.ucf import read_split_lists
    from training.evaluation.compare import (
        Comparison,
        Contender,
        check_labels,
        clips_of_none,
        compare_contenders,
        judge_together,
    )
    from training.evaluation.evaluate import (
        Evaluation,
        Predictions,
        classify_clips,
        clips_of_split,
        evaluate_clips,
        judge,
        unknown_clips,
    )
    from training.evaluation.metrics import Scores, score
    from training.evaluation.unknown import UnknownScores
    from training.fitting.config import TrainConfig
    from training.fitting.epochs import Epoch, Step
    from training.fitting.loop import LoopSettings, fit
    from training.fitting.recipe import TrainResult, train
    from training.fitting.trial import FoldResult, train_fold
    from training.fitting.watch import Reading, Watch
    from training.report.report_folder import (
        comparison_metrics,
        evaluation_metrics,
        prepare_folder,
        write_comparison,
        write_evaluation,
    )

__all__ = [
    "Comparison",
    "Contender",
    "DataSet",
    "Epoch",
    "Evaluation",
    "Fold",
    "FoldResult",
    "Inventory",
    "LabelledClip",
    "LoopSettings",
    "Predictions",
    "Reading",
    "Scores",
    "Split",
    "Step",
    "TrainConfig",
    "TrainResult",
    "UnknownScores",
    "Watch",
    "add_background",
    "check_labels",
    "classify_clips",
    "clips_of_none",
    "clips_of_split",
    "compare_contenders",
    "comparison_metrics",
    "evaluate_clips",
    "evaluation_metrics",
    "find_identical",
    "fit",
    "judge",
    "judge_together",
    "leave_one_group_out",
    "leave_out",
    "prepare_folder",
    "read_data_set",
    "read_split_lists",
    "score",
    "split_as_given",
    "split_at_random",
    "split_by_group",
    "take_inventory",
    "train",
    "train_fold",
    "unknown_clips",
    "write_comparison",
    "write_evaluation",
]

_LAZY = {
    "add_background": "data.background",
    "Comparison": "evaluation.compare",
    "Contender": "evaluation.compare",
    "check_labels": "evaluation.compare",
    "clips_of_none": "evaluation.compare",
    "compare_contenders": "evaluation.compare",
    "judge_together": "evaluation.compare",
    "TrainConfig": "fitting.config",
    "DataSet": "data.data_set",
    "LabelledClip": "data.data_set",
    "leave_out": "data.data_set",
    "find_identical": "data.duplicates",
    "Epoch": "fitting.epochs",
    "Step": "fitting.epochs",
    "Evaluation": "evaluation.evaluate",
    "Predictions": "evaluation.evaluate",
    "classify_clips": "evaluation.evaluate",
    "clips_of_split": "evaluation.evaluate",
    "evaluate_clips": "evaluation.evaluate",
    "judge": "evaluation.evaluate",
    "unknown_clips": "evaluation.evaluate",
    "Fold": "data.folds",
    "leave_one_group_out": "data.folds",
    "Inventory": "data.inventory",
    "take_inventory": "data.inventory",
    "LoopSettings": "fitting.loop",
    "fit": "fitting.loop",
    "Scores": "evaluation.metrics",
    "score": "evaluation.metrics",
    "read_data_set": "data.reading",
    "TrainResult": "fitting.recipe",
    "train": "fitting.recipe",
    "comparison_metrics": "report.report_folder",
    "evaluation_metrics": "report.report_folder",
    "prepare_folder": "report.report_folder",
    "write_comparison": "report.report_folder",
    "write_evaluation": "report.report_folder",
    "Split": "data.splits",
    "split_as_given": "data.splits",
    "split_at_random": "data.splits",
    "split_by_group": "data.splits",
    "FoldResult": "fitting.trial",
    "train_fold": "fitting.trial",
    "read_split_lists": "data.ucf",
    "UnknownScores": "evaluation.unknown",
    "Reading": "fitting.watch",
    "Watch": "fitting.watch",
}


def __getattr__(name: str) -> Any:
    """Imports torch and scikit-learn only when something that needs them is used."""
    if name in _LAZY:
        return getattr(import_module(f"training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")
