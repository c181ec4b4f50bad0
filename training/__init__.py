"""How a model is made and judged: labelled data sets, splits, the training loop, metrics."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.background import add_background
    from training.compare import Comparison, Contender, check_labels, clips_of_none, compare_contenders, judge_together
    from training.config import TrainConfig
    from training.data_set import DataSet, LabelledClip, leave_out
    from training.duplicates import find_identical
    from training.epochs import Epoch, Step
    from training.evaluate import (
        Evaluation,
        Predictions,
        classify_clips,
        clips_of_split,
        evaluate_clips,
        judge,
        unknown_clips,
    )
    from training.folds import Fold, leave_one_group_out
    from training.inventory import Inventory, take_inventory
    from training.loop import LoopSettings, fit
    from training.metrics import Scores, score
    from training.reading import read_data_set
    from training.recipe import TrainResult, train
    from training.report_folder import (
        comparison_metrics,
        evaluation_metrics,
        prepare_folder,
        write_comparison,
        write_evaluation,
    )
    from training.splits import Split, split_as_given, split_at_random, split_by_group
    from training.trial import FoldResult, train_fold
    from training.ucf import read_split_lists
    from training.unknown import UnknownScores
    from training.watch import Reading, Watch

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
    "add_background": "background",
    "Comparison": "compare",
    "Contender": "compare",
    "check_labels": "compare",
    "clips_of_none": "compare",
    "compare_contenders": "compare",
    "judge_together": "compare",
    "TrainConfig": "config",
    "DataSet": "data_set",
    "LabelledClip": "data_set",
    "leave_out": "data_set",
    "find_identical": "duplicates",
    "Epoch": "epochs",
    "Step": "epochs",
    "Evaluation": "evaluate",
    "Predictions": "evaluate",
    "classify_clips": "evaluate",
    "clips_of_split": "evaluate",
    "evaluate_clips": "evaluate",
    "judge": "evaluate",
    "unknown_clips": "evaluate",
    "Fold": "folds",
    "leave_one_group_out": "folds",
    "Inventory": "inventory",
    "take_inventory": "inventory",
    "LoopSettings": "loop",
    "fit": "loop",
    "Scores": "metrics",
    "score": "metrics",
    "read_data_set": "reading",
    "TrainResult": "recipe",
    "train": "recipe",
    "comparison_metrics": "report_folder",
    "evaluation_metrics": "report_folder",
    "prepare_folder": "report_folder",
    "write_comparison": "report_folder",
    "write_evaluation": "report_folder",
    "Split": "splits",
    "split_as_given": "splits",
    "split_at_random": "splits",
    "split_by_group": "splits",
    "FoldResult": "trial",
    "train_fold": "trial",
    "read_split_lists": "ucf",
    "UnknownScores": "unknown",
    "Reading": "watch",
    "Watch": "watch",
}


def __getattr__(name: str) -> Any:
    """Imports torch and scikit-learn only when something that needs them is used."""
    if name in _LAZY:
        return getattr(import_module(f"training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")
