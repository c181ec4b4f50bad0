"""Reports as one self-contained HTML page: no script, no other file, no request."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from tagger.errors import one_line
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from training.data.data_set import LabelledClip
from training.evaluation.compare import Comparison
from training.evaluation.evaluate import Evaluation, Verdict
from training.fitting.trial import FoldResult
from training.inputs.clip_decoding import decode_clips
from training.report.plots import jpeg
from training.report.style import style_file
from training.report.tables import (
    CALIBRATION_NOTE,
    CLASS_SCORES,
    CONTEST_NOTE,
    COST_NOTE,
    UNKNOWN_NOTE,
    TextTable,
    averages_table,
    class_table,
    compared_classes_table,
    comparison_table,
    confused_lines,
    contest_table,
    fold_averages_table,
    folds_table,
    interval_note,
    unknown_table,
)

MAX_CONFUSIONS = 12
"""Maximum number of confusions that are listed."""

STYLES = ("style.css", "page.css")
"""The files of the style: that of all pages of vtag, and that of reports."""


@dataclass(frozen=True)
class Picture:
    """A picture in a report: the name of its file, its title, and the PNG."""

    name: str
    title: str
    png: bytes


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction, with a JPEG of the middle frame of its clip; None when the clip can no longer be read."""

    verdict: Verdict
    jpeg: bytes | None


def show_mistakes(verdicts: Sequence[Verdict], sampling: Sampling, preprocessing: Preprocessing) -> tuple[Mistake, ...]:
    """Adds to each verdict the middle frame of its clip, as the tagger decodes and crops it."""
    decoded = decode_clips([verdict.clip for verdict in verdicts], sampling, preprocessing)
    return tuple(
        Mistake(verdict, jpeg(_middle(read.windows)) if len(read.windows) else None)
        for verdict, read in zip(verdicts, decoded, strict=True)
    )


def evaluation_report(
    title: str,
    facts: Mapping[str, str],
    evaluation: Evaluation,
    pictures: Iterable[Picture],
    mistakes: Sequence[Mistake],
) -> str:
    """Makes the page for one model. ``facts`` are names and values for its head. All texts are escaped here."""
    sections = [
        _section(
            "Scores",
            _table(averages_table(evaluation)),
            _note(f"{interval_note(evaluation.videos)} {CALIBRATION_NOTE}"),
        ),
        _section("Classes", _table(class_table(evaluation.videos, "videos", with_intervals=CLASS_SCORES))),
        *_unknown(evaluation),
        *(_section(picture.title, _picture(picture)) for picture in pictures),
    ]
    return _page(title, facts, [*sections, *_errors(evaluation, mistakes)])


def folds_report(
    facts: Mapping[str, str],
    results: Sequence[FoldResult],
    everything: Evaluation,
    pictures: Iterable[Picture],
    mistakes: Sequence[Mistake],
) -> str:
    """Makes the page for leave one group out; ``everything`` is the evaluation of all clips. All texts are escaped."""
    sections = [
        _section("Scores", _table(fold_averages_table(results, everything)), _note(interval_note(everything.videos))),
        _section("Folds", _table(folds_table(results))),
        _section("Classes", _table(class_table(everything.videos, "videos", with_intervals=CLASS_SCORES))),
        *(_section(picture.title, _picture(picture)) for picture in pictures),
    ]
    return _page("Leave one group out", facts, [*sections, *_errors(everything, mistakes)])


def comparison_report(title: str, facts: Mapping[str, str], comparison: Comparison, pictures: Iterable[Picture]) -> str:
    """Makes the page for a comparison. ``facts`` are names and values for its head. All texts are escaped here."""
    scores = comparison.contenders[0].evaluation.videos
    sections = [
        _section(
            "Scores and costs",
            _table(comparison_table(comparison)),
            _note(f"Scores are by video. {interval_note(scores)} {COST_NOTE}"),
        ),
        _section("Could the differences be chance?", _table(contest_table(comparison)), _note(CONTEST_NOTE)),
        _section("Classes", _table(compared_classes_table(comparison))),
        *(
            _section(f"Most confused videos: {contender.name}", _list(confused))
            for contender in comparison.contenders
            if (confused := confused_lines(contender.evaluation.videos, MAX_CONFUSIONS))
        ),
        *(_section(picture.title, _picture(picture)) for picture in pictures),
    ]
    return _page(title, facts, sections)


def clip_name(clip: LabelledClip) -> str:
    """Returns the name of a clip's file and of its folder."""
    return one_line("/".join(clip.path.parts[-2:]))


def _unknown(evaluation: Evaluation) -> Iterator[str]:
    """Yields the section on unknown footage, or nothing when the model knows the classes of all clips."""
    if unknown := evaluation.unknown:
        note = f"{UNKNOWN_NOTE} Classes that the model does not know: {', '.join(unknown.classes)}."
        yield _section("Footage of other classes", _table(unknown_table(unknown)), _note(note))


def _errors(evaluation: Evaluation, mistakes: Sequence[Mistake]) -> Iterator[str]:
    """Yields the sections on confused classes, wrong predictions and unreadable clips, each only if there are any."""
    if confused := confused_lines(evaluation.videos, MAX_CONFUSIONS):
        yield _section("Most confused videos", _list(confused))
    if mistakes:
        wrong = evaluation.videos.examples - sum(row[i] for i, row in enumerate(evaluation.videos.confusion))
        note = f"The most confident of {wrong:,} mistakes, each with its middle frame as the model sees it."
        yield _section("Worst mistakes", _note(note), _mistakes(mistakes))
    if unreadable := evaluation.predictions.unreadable:
        lines = [f"{clip_name(clip)}: {problem}" for clip, problem in unreadable]
        yield _section("Not read, and not counted", _list(lines))


def _page(title: str, facts: Mapping[str, str], sections: Iterable[str]) -> str:
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    # The policy makes a browser refuse any request, as a second safeguard.
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{"".join(map(style_file, STYLES))}</style>
</head>
<body>
<h1>{_text(title)}</h1>
<dl>{rows}</dl>
{"".join(sections)}</body>
</html>
"""


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{''.join(parts)}</section>\n"


def _table(table: TextTable) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.columns)
    rows = "\n".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n'


def _note(text: str) -> str:
    return f"<p>{_text(text)}</p>\n"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>\n"


def _picture(picture: Picture) -> str:
    return f'<div class="wide"><img alt="{_text(picture.title)}" src="{_data(picture.png, "image/png")}"></div>\n'


def _mistakes(mistakes: Iterable[Mistake]) -> str:
    figures = []
    for mistake in mistakes:
        verdict, name = mistake.verdict, _text(clip_name(mistake.verdict.clip))
        image = '<div class="none">cannot be read any more</div>'
        if mistake.jpeg is not None:
            image = f'<img alt="{name}" src="{_data(mistake.jpeg, "image/jpeg")}">'
        figures.append(
            f"<figure>{image}<figcaption><b>{_text(verdict.label)}</b> {verdict.confidence:.2f}<br>"
            f"truth: {_text(verdict.clip.label)}<br><span>{name}</span></figcaption></figure>\n"
        )
    return f'<div class="clips">\n{"".join(figures)}</div>\n'


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _text(text: str) -> str:
    """Escapes text for HTML: names of files and classes may have any characters."""
    return escape(one_line(text))


def _middle(windows: np.ndarray) -> np.ndarray:
    window = windows[len(windows) // 2]
    return window[len(window) // 2]
