"""Teaches a model: marks and the embeddings of a result make a model file that knows old and new labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.browse.importing.label_studio import FRAME_RATE, is_export, read_export
from jobs.browse.marks import Mark, read_marks
from jobs.browse.result_model import find_result_model
from jobs.browse.segments import FinishedResult
from jobs.browse.teaching.marked_segments import MarkedResult, MarkedSegment, find_marked, with_known_labels
from jobs.browse.vectors.reading import vector_size, vectors_at
from jobs.errors import reason
from jobs.storage.location import locate
from tagger.errors import InputError, OutputError
from tagger.models.embeddings.embedder import values_of
from tagger.tagger import ModelSource
from training.fitting.config import check_out
from training.teaching.lesson import Lesson, Marked, Unmarked, start_head, teach
from training.teaching.mark_scores import MarkScores, scores_of
from training.teaching.recalibration import recalibrated
from training.teaching.taught_file import write_taught

FEWEST_SEGMENTS = 2
"""Marked segments that a new label needs."""


@dataclass(frozen=True)
class TaughtLabel:
    """What a model was taught about one label, and how well it knows it.

    ``marks`` and ``denials`` are rows of the CSV files, ``segments`` and ``videos`` those that the marks speak about,
    ``shown_videos`` the videos of segments that show the label.
    ``recall`` and ``precision`` are the cross-validated ones of ``MarkScores``. ``share`` is the share of a sample of
    the unmarked segments that now have this label; None without a sample.
    """

    label: str
    is_new: bool
    marks: int
    denials: int
    segments: int
    videos: int
    shown_videos: int
    recall: float | None
    precision: float | None
    share: float | None


@dataclass(frozen=True)
class Taught:
    """A taught model: its file, all of its labels, what it was taught, and its temperature."""

    out: Path
    labels: tuple[str, ...]
    taught: tuple[TaughtLabel, ...]
    temperature: float


def teach_model(
    finished: FinishedResult,
    files: Sequence[Path],
    out: Path,
    model: str | None = None,
    frame_rate: float = FRAME_RATE,
) -> Taught:
    """Teaches the model of the result the marks of the CSV ``files``, and writes the model file ``out``.

    ``model`` is as in ``find_result_model``, ``frame_rate`` as in ``read_export``. No video is opened. The same input
    gives the same model. Raises InputError for marks that cannot be used, ModelFileError for a model that cannot be
    taught, OutputError when the result has no embeddings or a file cannot be read or written.
    """
    vector_size(finished)
    _check_out(finished, out)
    source = find_result_model(finished, model)
    answers = source.load_answers()
    if out.exists() and out.samefile(source.file_here):
        raise OutputError(
            f"--out {out} is the model that made {finished.path}, which later lessons need; choose another"
        )
    old = source.info.labels
    marks = with_known_labels([mark for file in files for mark in _read(file, finished, frame_rate, old)], old)
    if not marks:
        raise InputError(f"{' and '.join(map(str, files))}: no row has a label; give each moment a label, or not LABEL")
    new = tuple(dict.fromkeys(mark.label for mark in marks if mark.label not in old))
    labels = old + new
    found = find_marked(finished, marks)
    _check_segments(new, found)
    marked, unmarked = _arrays(finished, found, labels)
    start = start_head(answers.weight, answers.bias, source.info.temperature, len(new))
    lesson = teach(start, len(old), marked, unmarked)
    after = lesson.head.logits(unmarked.values) / lesson.temperature
    ood = source.info.ood
    if ood is not None:
        held_out = lesson.held_out[(marked.label >= len(old)) & ~np.isnan(lesson.held_out).any(axis=1)]
        before = start.logits(unmarked.values)[:, : len(old)]
        ood = recalibrated(ood, before, after, held_out / lesson.temperature, len(new))
    share = np.bincount(after.argmax(axis=1), minlength=len(labels)) / len(after) if len(after) else None
    about = {mark.label for mark in marks}
    taught = tuple(
        _summary(label, label in new, marks, found, scores_of(number, lesson, marked), share, number)
        for number, label in enumerate(labels)
        if label in about
    )
    training = _metadata(finished, source, files, taught, lesson, len(unmarked.video))
    try:
        write_taught(out, source, labels, lesson.head, lesson.temperature, ood, training)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {reason(error)}") from error
    return Taught(out, labels, taught, lesson.temperature)


def _read(file: Path, finished: FinishedResult, frame_rate: float, known: Sequence[str]) -> list[Mark]:
    return read_export(file, finished, frame_rate, known) if is_export(file) else read_marks(file, known)


def _check_out(finished: FinishedResult, out: Path) -> None:
    try:
        check_out(out)
        finished.check_outside(locate(out), "--out")
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is no name of a file"
        raise OutputError(f"cannot write {out}: {why}") from error


def _check_segments(new: Sequence[str], found: MarkedResult) -> None:
    for label in new:
        count = sum(segment.shown == label for segment in found.segments)
        if count < FEWEST_SEGMENTS:
            raise InputError(
                f"the new label {label} has marks in {count} segment: mark {FEWEST_SEGMENTS} or more, better 10 in "
                "different videos"
            )


def _arrays(finished: FinishedResult, found: MarkedResult, labels: Sequence[str]) -> tuple[Marked, Unmarked]:
    number = {label: at for at, label in enumerate(labels)}
    rows = np.array([segment.row for segment in found.segments])
    order = np.argsort(np.append(rows, found.sample))
    vectors = np.empty((len(order), vector_size(finished)), np.float32)
    vectors[order] = vectors_at(finished, np.append(rows, found.sample)[order])
    values = values_of(vectors.astype(np.float64))
    label = np.array([-1 if each.shown is None else number[each.shown] for each in found.segments])
    denied = np.zeros((len(rows), len(labels)), bool)
    for at, segment in enumerate(found.segments):
        denied[at, [number[name] for name in segment.denied]] = True
        if denied[at].all():
            raise InputError(f"{segment.where}: the marks of this segment deny every label; mark what it shows")
    video = np.array([segment.video for segment in found.segments])
    return Marked(values[: len(rows)], label, denied, video), Unmarked(values[len(rows) :], found.sample_video)


def _summary(
    label: str,
    is_new: bool,
    marks: Sequence[Mark],
    found: MarkedResult,
    scores: MarkScores,
    share: np.ndarray | None,
    number: int,
) -> TaughtLabel:
    own = [mark for mark in marks if mark.label == label]
    denials = sum(mark.is_denial for mark in own)
    segments: list[MarkedSegment] = [each for each in found.segments if each.shown == label or label in each.denied]
    return TaughtLabel(
        label,
        is_new,
        len(own) - denials,
        denials,
        len(segments),
        len({segment.video for segment in segments}),
        len({segment.video for segment in segments if segment.shown == label}),
        scores.recall,
        scores.precision,
        None if share is None else float(share[number]),
    )


def _metadata(
    finished: FinishedResult,
    source: ModelSource,
    files: Sequence[Path],
    taught: Sequence[TaughtLabel],
    lesson: Lesson,
    sample: int,
) -> dict[str, object]:
    """Returns the entry ``training`` of the model file: what was taught, by which marks, to which model."""
    names = ("marks", "denials", "segments", "videos", "recall", "precision")
    return {
        "taught": {each.label: {name: getattr(each, name) for name in names} for each in taught},
        "new labels": [each.label for each in taught if each.is_new],
        "model": {"name": source.name, "sha256": source.hash, "labels": len(source.info.labels)},
        "marks": [file.name for file in files],
        "result": finished.path,
        "unmarked segments": sample,
        "pull": lesson.pull,
    }
