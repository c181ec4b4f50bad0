"""Plots of evaluations and training curves. They are legible with five classes and with a hundred."""

import io
import warnings
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from tagger.errors import one_line
from training.evaluation.calibration import Reliability
from training.evaluation.metrics import Scores

DPI = 110
LONGEST_LABEL = 22

BLUE, ORANGE, GREY = "#2f6db5", "#d9822b", "#8a8f98"


def plot_confusion(scores: Scores, title: str) -> Figure:
    """Draws the confusion matrix, without classes that do not occur. Colours are shares of a row, numbers are counts.

    Cells have a fixed size, a smaller one with more than 30 classes, so the picture grows with the number of classes.
    """
    confusion = np.array(scores.confusion)
    occurs = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    confusion = confusion[np.ix_(occurs, occurs)]
    names = [short(scores.classes[i].label) for i in occurs]
    count = len(names)
    cell_in, font = (0.37, 9) if count <= 30 else (0.19, 7)
    side_in = max(2.0, cell_in * count) + (2.4 if count <= 30 else 4.0)
    figure = Figure(figsize=(side_in, side_in), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for i, j in np.argwhere(confusion):
        colour = "white" if shares[i, j] > 0.5 else "#1c2733" if i == j else "#b3261e"
        axes.text(j, i, str(confusion[i, j]), ha="center", va="center", color=colour, fontsize=font)
    axes.set_xticks(range(count), names, fontsize=font, parse_math=False)
    axes.set_yticks(range(count), names, fontsize=font, parse_math=False)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e3e6ea", linewidth=0.6)
    # In a large matrix, names on all four sides make it easier to follow a line.
    axes.tick_params(which="both", length=0, labeltop=count > 30, labelright=count > 30)
    axes.tick_params(axis="x", labelrotation=90)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("truth")
    _title(axes, title)
    return figure


def plot_reliability(before: Reliability, after: Reliability, temperature: float, title: str) -> Figure:
    """Draws accuracy over confidence, before and after temperature scaling, and the share of examples in each bin."""
    figure = Figure(figsize=(9, 5), dpi=DPI, layout="constrained")
    figure.suptitle(title, parse_math=False, fontsize=11)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1))
    panels = ((before, "before temperature scaling"), (after, f"after, temperature {temperature:.2f}"))
    for column, (measured, name) in enumerate(panels):
        filled = [bin for bin in measured.bins if bin.examples]
        examples = sum(bin.examples for bin in filled)
        left, width = [bin.low for bin in filled], 1 / len(measured.bins)
        axes = figure.add_subplot(grid[0, column])
        axes.bar(left, [bin.accuracy for bin in filled], width, align="edge", color=BLUE, edgecolor="white")
        axes.plot([bin.confidence for bin in filled], [bin.accuracy for bin in filled], ".", color="#1c2733")
        axes.plot([0, 1], [0, 1], "--", color=ORANGE, linewidth=1.2, label="confidence = accuracy")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
        axes.set_title(f"{name}: error {measured.error:.3f}", fontsize=10)
        axes.legend(loc="upper left", fontsize=8, frameon=False)
        below = figure.add_subplot(grid[1, column], sharex=axes)
        below.bar(left, [bin.examples / examples for bin in filled], width, align="edge", color=GREY, edgecolor="white")
        below.set(xlabel="confidence", ylabel="share")
        for panel in (axes, below):
            panel.spines[["top", "right"]].set_visible(False)
    return figure


def plot_f1(scores: Scores, title: str) -> Figure:
    """Draws the F1 of each class that has examples, with its interval, the best on top."""
    classes = sorted((row for row in scores.classes if row.support), key=lambda row: row.f1)
    font = 9 if len(classes) <= 30 else 7
    height_in = (0.26 if len(classes) <= 30 else 0.17) * len(classes) + 1.0
    figure = Figure(figsize=(7.5, height_in), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(classes)), [row.f1 for row in classes], color=BLUE, height=0.72)
    for i, row in enumerate(classes):
        if "f1" in row.intervals:
            axes.plot(row.intervals["f1"], (i, i), color="#1c2733", linewidth=1.1, marker="|", markersize=5)
    axes.axvline(scores.f1, color=ORANGE, linestyle="--", linewidth=1.2)
    axes.set_yticks(range(len(classes)), [short(row.label) for row in classes], fontsize=font, parse_math=False)
    axes.set(xlim=(0, 1.01), ylim=(-0.6, len(classes) - 0.4), xlabel="F1, with its 95 % interval")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _title(axes, f"{title} (dashed: the average, {scores.f1:.3f})")
    return figure


SERIES = (
    ("loss", (("train_loss", "training", BLUE), ("val_loss", "validation", ORANGE))),
    (
        "accuracy",
        (
            ("train_accuracy", "training", BLUE),
            ("val_accuracy", "validation, windows", ORANGE),
            ("val_video_accuracy", "validation, videos", GREY),
        ),
    ),
)
"""The panels of the training curves: what each shows, and its lines as field of an ``Epoch``, name and colour."""


def plot_curves(epochs: Sequence[Mapping[str, float]], best_epoch: int | None, title: str) -> Figure:
    """Draws training and validation loss and accuracy over the epochs.

    Each item of ``epochs`` has fields of an ``Epoch``: ``number``, ``train_loss``, ``val_loss``, ``train_accuracy``,
    ``val_accuracy`` and ``val_video_accuracy``.
    """
    figure, panels = _curve_panels(title)
    numbers = [row["number"] for row in epochs]
    for axes, (what, lines) in zip(panels, SERIES, strict=True):
        for key, name, colour in lines:
            axes.plot(numbers, [row[key] for row in epochs], color=colour, label=name, marker=".")
        if best_epoch is not None:
            axes.axvline(best_epoch, color="#1c2733", linestyle=":", linewidth=1, label=f"kept: epoch {best_epoch}")
        _finish_curves(axes, what)
    return figure


def plot_fold_curves(folds: Sequence[Sequence[Mapping[str, float]]], title: str) -> Figure:
    """Draws training and validation loss and accuracy: a thin line for each fold, and a thick one for their mean.

    Each of ``folds`` has epochs as in ``plot_curves``. The mean of an epoch is over the folds that have this epoch.
    """
    figure, panels = _curve_panels(title)
    numbers = range(1, max(map(len, folds)) + 1)
    for axes, (what, lines) in zip(panels, SERIES, strict=True):
        for key, name, colour in lines:
            for epochs in folds:
                axes.plot(numbers[: len(epochs)], [row[key] for row in epochs], color=colour, linewidth=0.7, alpha=0.5)
            means = [fmean(epochs[i - 1][key] for epochs in folds if len(epochs) >= i) for i in numbers]
            axes.plot(numbers, means, color=colour, label=f"{name}, mean of folds", marker=".")
        _finish_curves(axes, what)
    return figure


def _curve_panels(title: str) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(9, 3.6), dpi=DPI, layout="constrained")
    figure.suptitle(title, parse_math=False, fontsize=11)
    return figure, figure.subplots(1, 2)


def _finish_curves(axes: Axes, what: str) -> None:
    axes.set(xlabel="epoch", ylabel=what, ylim=(0, 1.02) if what == "accuracy" else (0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def png(figure: Figure) -> bytes:
    """Returns the figure as a PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks shows as boxes here, but correctly in the tables.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def jpeg(picture: np.ndarray) -> bytes:
    """Returns a picture ``[H, W, 3] uint8`` as a JPEG."""
    buffer = io.BytesIO()
    imsave(buffer, picture, format="jpeg")
    return buffer.getvalue()


def short(label: str) -> str:
    """Shortens a label so that it fits beside an axis."""
    label = one_line(label)
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"


def _title(axes: Axes, title: str) -> Artist:
    return axes.set_title(title, parse_math=False, fontsize=11)
