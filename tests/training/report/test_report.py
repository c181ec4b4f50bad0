"""The plots and the report of an evaluation are legible, self-contained, and safe with any name of a class or file."""

import json
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tagger import OutputError, Preprocessing, Sampling
from tests.training.synthetic import class_names, predictions
from training.data.data_set import LabelledClip
from training.evaluation.evaluate import Predictions, judge, verdicts, worst_mistakes
from training.fitting.trial import FoldResult, spread
from training.report.page import Mistake, Picture, evaluation_report
from training.report.plots import plot_confusion, plot_curves, plot_f1, plot_fold_curves, plot_reliability, png
from training.report.report_folder import prepare_folder, write_folds
from training.report.style import style_file

PNG = b"\x89PNG\r\n\x1a\n"
NASTY = '<script src="https://evil.example/x.js"></script>&"\'$x^2$[bold]'


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(made: Predictions) -> Page:
    evaluation = judge(made)
    wrong = worst_mistakes(made, 5)
    mistakes = [Mistake(wrong[0], b"a picture"), *(Mistake(verdict, None) for verdict in wrong[1:])]
    picture = Picture("confusion.png", NASTY, png(plot_confusion(evaluation.videos, NASTY)))
    return Page(evaluation_report(f"Evaluation of {NASTY}", {"Data": NASTY}, evaluation, [picture], mistakes))


@pytest.mark.parametrize("classes", [11, 20, 101])
def test_plots_leave_room_for_every_name(classes: int) -> None:
    evaluation = judge(predictions(class_names(classes), groups=2, clips=1))
    for figure in (plot_confusion(evaluation.videos, "Confusion"), plot_f1(evaluation.videos, "F1")):
        figure.draw_without_rendering()
        axes = figure.axes[0]
        names = [label for label in axes.get_yticklabels() if label.get_text()]
        assert {name.get_text() for name in names} == {row.label for row in evaluation.videos.classes}
        boxes = sorted({(name.get_window_extent().y0, name.get_window_extent().y1) for name in names})
        assert len(boxes) == classes
        assert all(below[1] < above[0] for below, above in pairwise(boxes))
        assert all(name.get_fontsize() >= 7 for name in names)


def test_classes_that_do_not_occur_are_left_out_of_the_confusion_matrix() -> None:
    made = predictions(class_names(3), margin=50)
    labels = (*made.labels, *(f"absent{i}" for i in range(40)))
    absent = np.full((len(made.logits), 40), -100.0)
    evaluation = judge(replace(made, labels=labels, logits=np.hstack([made.logits, absent])))
    assert len(plot_confusion(evaluation.videos, "Confusion").axes[0].get_yticklabels()) == 3


def test_reliability_and_curves_are_drawn_from_the_measured_values() -> None:
    evaluation = judge(predictions(class_names(6)))
    calibration = evaluation.windows_calibration
    figure = plot_reliability(calibration.before, calibration.after, 0.5, "Calibration")
    assert [axes.get_title() for axes in figure.axes[::2]] == [
        f"before temperature scaling: error {calibration.before.error:.3f}",
        f"after, temperature 0.50: error {calibration.after.error:.3f}",
    ]
    assert png(figure).startswith(PNG)
    row = {"train_loss": 1.0, "val_loss": 2.0, "train_accuracy": 0.5, "val_accuracy": 0.4, "val_video_accuracy": 0.6}
    curves = plot_curves([{"number": number, **row} for number in (1, 2, 3)], 2, "Training")
    assert [list(line.get_ydata()) for line in curves.axes[0].lines[:2]] == [[1.0] * 3, [2.0] * 3]
    assert png(curves).startswith(PNG)


def test_a_report_makes_no_requests_and_has_no_scripts() -> None:
    page = page_of(predictions(class_names(6), margin=1))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    references = [value for name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert len(references) == 2 and all(value.startswith("data:image/") for value in references)
    assert b64decode(references[0].partition(",")[2]).startswith(PNG)
    assert not any(name.startswith("on") or name == "style" for name, _ in page.attributes)
    assert not re.search(r"url\(|@import", page.text)
    assert any(value.startswith("default-src 'none'") for name, value in page.attributes if name == "content")


def test_a_report_has_the_style_of_all_pages() -> None:
    assert style_file("style.css") in page_of(predictions(class_names(6), margin=1)).text


def test_names_of_classes_and_files_appear_as_they_are_and_are_never_markup() -> None:
    made = predictions([NASTY, "b"], margin=0)
    clips = tuple(replace(clip, path=Path("clips") / clip.label / NASTY) for clip in made.clips)
    page = page_of(replace(made, clips=clips, unreadable=((clips[0], NASTY),)))
    assert "script" not in page.tags and "bold" not in page.tags
    assert page.text.count(NASTY) >= 6


def test_a_name_that_is_not_valid_unicode_does_not_break_the_report() -> None:
    made = predictions(["a", "b"], margin=0)
    clips = tuple(replace(clip, path=Path("clips\udcff/\n\udc80.mp4")) for clip in made.clips)
    assert "\\udc80" in page_of(replace(made, clips=clips)).text


def test_the_worst_mistakes_are_the_most_confident_ones() -> None:
    made = predictions(class_names(6), margin=1)
    wrong = [verdict for verdict in verdicts(made) if verdict.label != verdict.clip.label]
    worst = worst_mistakes(made, 3)
    assert len(wrong) > 3
    assert [verdict.confidence for verdict in worst] == sorted((v.confidence for v in wrong), reverse=True)[:3]


def test_the_scores_for_a_model_file_are_small_and_have_no_clips() -> None:
    made = predictions(class_names(101), groups=7, clips=5)
    kept = judge(made).to_json()
    text = json.dumps(kept)
    assert len(text) < 150_000 and "c0.mp4" not in text
    assert kept["calibration"]["windows_before"] > 0


def test_predictions_of_some_clips_have_the_values_of_these_clips() -> None:
    made = predictions(class_names(3))
    chosen: set[LabelledClip] = {made.clips[4], made.clips[20]}
    some = made.of(chosen)
    assert some.clips == (made.clips[4], made.clips[20])
    assert some.by_video(0.5) == pytest.approx(made.by_video(0.5)[[4, 20]])
    assert some.truth.tolist() == made.truth[[4, 20]].tolist()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the folder"):
        prepare_folder(tmp_path / "file" / "report")


def fold_results() -> tuple[Predictions, list[FoldResult]]:
    """Predictions for all clips of three groups, and the same as results of three models, each for one group."""
    made = predictions(class_names(3), groups=3, clips=2, margin=1, temperature=2.0)
    row = {"train_loss": 1.0, "val_loss": 2.0, "train_accuracy": 0.5, "val_accuracy": 0.4, "val_video_accuracy": 0.6}
    results = []
    for number, group in enumerate(("g0", "g1", "g2"), 1):
        part = made.of([clip for clip in made.clips if clip.group == group])
        # Models of their own, so each has its own temperature.
        part = replace(part, logits=part.logits * number, temperature=made.temperature * number)
        epochs = tuple({**row, "number": i, "val_loss": float(number)} for i in range(1, number + 2))
        results.append(FoldResult((group,), number, judge(part), (), epochs))
    return made, results


def test_the_report_of_folds_has_the_scores_of_each_fold_and_one_confusion_matrix_of_all_clips(tmp_path: Path) -> None:
    made, results = fold_results()
    write_folds(tmp_path, results, data=Path("clips"), sampling=Sampling(), preprocessing=Preprocessing())
    whole = judge(made)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["all_clips"]["videos"]["confusion"] == [list(row) for row in whole.videos.confusion]
    assert metrics["all_clips"]["windows"]["accuracy"] == whole.windows.accuracy
    assert [fold["groups"] for fold in metrics["folds"]] == [["g0"], ["g1"], ["g2"]]
    confidences = {clip["path"]: clip["confidence"] for clip in metrics["clips"]}
    assert confidences == pytest.approx({str(v.clip.path): v.confidence for v in verdicts(made)})
    text = Page((tmp_path / "report.html").read_text("utf-8")).text
    folds = spread([result.evaluation.videos.f1 for result in results])
    assert f"{folds.mean:.3f} ± {folds.deviation:.3f}" in text and f"{whole.videos.accuracy:.3f}" in text
    assert "all clips" in text and "18 of 3 classes, in 9 groups" in text
    pictures = ["confusion.png", "curves.png", "f1.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*pictures, "metrics.json", "report.html"]


def test_the_curves_of_folds_are_a_thin_line_for_each_fold_and_their_mean() -> None:
    _, results = fold_results()
    loss = plot_fold_curves([result.epochs for result in results], "Training").axes[0]
    validation = [list(line.get_ydata()) for line in loss.lines[4:]]
    # Folds of 2, 3 and 4 epochs; their validation losses are 1, 2 and 3.
    assert validation == [[1.0] * 2, [2.0] * 3, [3.0] * 4, [2.0, 2.0, 2.5, 3.0]]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [
        "training, mean of folds",
        "validation, mean of folds",
    ]
