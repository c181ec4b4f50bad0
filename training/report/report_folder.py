"""Writes a report, its pictures and its metrics into a folder: the ``--out`` of ``vtag evaluate`` and ``vtag compare``,
and the folder ``report`` in the run folder of ``vtag train``.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tagger import __version__
from tagger.errors import OutputError
from tagger.preprocessing import Preprocessing
from tagger.tagger import ModelSource
from tagger.windows import Sampling
from training.evaluation.compare import Comparison
from training.evaluation.evaluate import Evaluation, Predictions, judge, pool, verdicts, worst_mistakes
from training.fitting.trial import FoldResult, folds_json
from training.report.page import Picture, comparison_report, evaluation_report, folds_report, show_mistakes
from training.report.plots import plot_confusion, plot_curves, plot_f1, plot_fold_curves, plot_reliability, png

REPORT = "report.html"
METRICS = "metrics.json"

MAX_MISTAKES = 12
"""Maximum number of wrong predictions that are shown with a picture."""


def prepare_folder(folder: Path) -> None:
    """Makes the folder if needed and checks that it can be written, before hours of work. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {(error.strerror or str(error)).lower()}") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {folder / REPORT}: no permission to write in {folder}")


def evaluation_metrics(source: ModelSource, evaluation: Evaluation, split: str) -> dict[str, Any]:
    """Returns the scores of a model, with its name and hash, JSON-ready."""
    return {"model": source.name, "model_hash": source.hash, "split": split, **evaluation.to_json()}


def comparison_metrics(comparison: Comparison, split: str) -> dict[str, Any]:
    """Returns the scores and costs of the models, and the result of each pair of them, JSON-ready."""
    return {"split": split, **comparison.to_json()}


def write_evaluation(folder: Path, source: ModelSource, evaluation: Evaluation, *, data: Path, split: str) -> None:
    """Writes ``report.html``, ``metrics.json`` with the prediction for each clip, and the pictures as PNGs."""
    predictions = evaluation.predictions
    pictures = list(_pictures(evaluation, source.info.training))
    mistakes = show_mistakes(worst_mistakes(predictions, MAX_MISTAKES), source.info.sampling, source.info.preprocessing)
    facts = {
        "Model": f"{source.name}, {source.info.architecture}, SHA-256 {source.hash[:16]}…",
        "Windows": str(source.info.sampling),
        **_facts(data, split, predictions),
    }
    metrics = {
        **evaluation_metrics(source, evaluation, split),
        "reliability": {
            "videos": asdict(evaluation.videos_calibration),
            "windows": asdict(evaluation.windows_calibration),
        },
        **_clips(predictions),
    }
    report = evaluation_report(f"Evaluation of {source.name}", facts, evaluation, pictures, mistakes)
    _write(folder, pictures, metrics, report)


def write_folds(
    folder: Path, results: Sequence[FoldResult], *, data: Path, sampling: Sampling, preprocessing: Preprocessing
) -> None:
    """Writes the report of leave one group out: ``report.html``, ``metrics.json`` and the pictures as PNGs.

    The confusion matrix and the scores of each class are over all clips, each as the model classified it that was
    trained without its group. ``sampling`` and ``preprocessing`` are those of the models.
    """
    everything = judge(pool([result.evaluation.predictions for result in results]))
    predictions = everything.predictions
    pictures = [
        *_score_pictures(everything),
        Picture("curves.png", "Training", png(plot_fold_curves([result.epochs for result in results], "Training"))),
    ]
    mistakes = show_mistakes(worst_mistakes(predictions, MAX_MISTAKES), sampling, preprocessing)
    metrics = {
        **folds_json(results),
        "all_clips": {"videos": everything.videos.to_json(), "windows": everything.windows.to_json()},
        **_clips(predictions),
    }
    facts = {"Models": f"{len(results):,}, each trained without one group", **_facts(data, "all", predictions)}
    _write(folder, pictures, metrics, folds_report(facts, results, everything, pictures, mistakes))


def write_comparison(folder: Path, comparison: Comparison, *, data: Path, split: str) -> None:
    """Writes ``report.html``, ``metrics.json`` and the confusion matrix of each model as a PNG."""
    pictures = [
        Picture(f"confusion-{number}.png", title, png(plot_confusion(contender.evaluation.videos, title)))
        for number, contender in enumerate(comparison.contenders, start=1)
        for title in [f"Confusion of videos: {contender.name}"]
    ]
    facts = _facts(data, split, comparison.contenders[0].evaluation.predictions)
    title = f"Comparison of {', '.join(contender.name for contender in comparison.contenders)}"
    report = comparison_report(title, facts, comparison, pictures)
    _write(folder, pictures, comparison_metrics(comparison, split), report)


def _clips(predictions: Predictions) -> dict[str, Any]:
    """Returns the prediction for each clip, and the clips that could not be read, JSON-ready."""
    clips = [
        {
            "path": str(verdict.clip.path),
            "label": verdict.clip.label,
            "group": verdict.clip.group,
            "predicted": verdict.label,
            "confidence": verdict.confidence,
        }
        for verdict in verdicts(predictions)
    ]
    problems = [{"path": str(clip.path), "problem": problem} for clip, problem in predictions.unreadable]
    return {"clips": clips, "unreadable_clips": problems}


def _facts(data: Path, split: str, predictions: Predictions) -> dict[str, str]:
    """Returns the data on which the models were evaluated, and the date."""
    groups = len(set(predictions.groups.tolist()))
    classes = len(set(predictions.truth.tolist()))
    which = "all clips" if split == "all" else f"the clips that were held out for {split}"
    return {
        "Data": f"{data.absolute().name}, {which}",
        "Clips": f"{len(predictions.clips):,} of {classes:,} classes, in {groups:,} groups",
        "Made": f"{datetime.now(UTC).date().isoformat()}, vtag {__version__}",
    }


def _pictures(evaluation: Evaluation, training: Mapping[str, Any]) -> Iterator[Picture]:
    """Yields the pictures of an evaluation. ``training`` is the metadata of the model file; curves need its epochs."""
    yield from _score_pictures(evaluation)
    for what, measured in (("videos", evaluation.videos_calibration), ("windows", evaluation.windows_calibration)):
        title = f"Reliability of confidences: {what}"
        figure = plot_reliability(measured.before, measured.after, evaluation.temperature, title)
        yield Picture(f"reliability-{what}.png", title, png(figure))
    if epochs := training.get("epochs"):
        best = training.get("best_epoch", {}).get("number")
        yield Picture("curves.png", "Training", png(plot_curves(epochs, best, "Training")))


def _score_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    """Yields the confusion matrix and the F1 of each class."""
    title = "Confusion of videos"
    yield Picture("confusion.png", title, png(plot_confusion(evaluation.videos, title)))
    title = "F1 of each class, by video"
    yield Picture("f1.png", title, png(plot_f1(evaluation.videos, title)))


def _write(folder: Path, pictures: Sequence[Picture], metrics: Mapping[str, Any], report: str) -> None:
    for picture in pictures:
        (folder / picture.name).write_bytes(picture.png)
    (folder / METRICS).write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    (folder / REPORT).write_text(report, "utf-8")
