"""The part of a page that needs no script: what the result holds, the time of each label, and what was not read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pyarrow as pa

from jobs.browse.report.gather import ReportData
from jobs.browse.report.label_times import LabelTime
from jobs.browse.segments import FinishedResult
from tagger.errors import one_line
from tagger.segments import BACKGROUND
from tagger.windows import Sampling

EXAMPLES = 5
"""Videos of each kind of error that are named."""


def as_html(text: str) -> str:
    """Escapes text for HTML, on one line."""
    return escape(one_line(text))


def lead(data: ReportData) -> str:
    """Returns the first sentence: hours, videos, labels, and how many videos were not read to the end, as HTML."""
    hours_s = float(np.nansum(_floats(data.videos["duration_s"])))
    status = Counter(data.videos["status"].to_pylist())
    events = sum(time.events for time in data.times if time.label != BACKGROUND)
    labels = sum(time.label != BACKGROUND for time in data.times)
    parts = [
        f"<b>{_duration(hours_s)}</b> in <b>{_count(len(data.videos), 'video')}</b>",
        f"{_count(events, 'event')} of {_count(labels, 'label')}",
    ]
    if status["failed"]:
        parts.append(f"{_count(status['failed'], 'video')} not read")
    if status["partial"]:
        parts.append(f"{_count(status['partial'], 'video')} read in part")
    sentence = " · ".join(parts)
    if data.left_out:
        sentence += (
            f"<br>{_count(data.left_out, 'more video')} did not fit: these are the videos with the most confident "
            "segments. The labels by time are of all videos."
        )
    return sentence


def facts(finished: FinishedResult, version: str) -> Mapping[str, str]:
    """Returns names and values: where the result is, its model, its sampling, what it has."""
    identity = finished.result.identity
    only = identity.only
    return {
        "Result": finished.path,
        "Model": f"{identity.model}, SHA-256 {identity.model_hash[:12]}",
        "Windows": str(Sampling(**identity.sampling)),
        **({} if only is None else {"Ranges": f"{only['ranges']:,} of {only['videos']:,} videos (--only)"}),
        "Labels kept": f"the best {identity.top_k} of each segment",
        "Embeddings": "yes" if identity.embeddings else "no",
        "Page": f"made by vtag {version}",
    }


def facts_html(values: Mapping[str, str]) -> str:
    """Returns names and values as the inside of a list of terms."""
    return "".join(f"<dt>{as_html(name)}</dt><dd><bdi>{as_html(value)}</bdi></dd>" for name, value in values.items())


def labels_html(times: Sequence[LabelTime], numbers: Mapping[str, int]) -> str:
    """Returns the table of labels by time, ``background`` apart. ``numbers`` are those of the page's script."""
    if not times:
        return "<p>No segments.</p>"
    known = [time for time in times if time.label != BACKGROUND]
    apart = [time for time in times if time.label == BACKGROUND]
    rows = "".join(_label_row(time, numbers[time.label]) for time in [*known, *apart])
    return f"<table><thead><tr><th>Label</th><th>Time</th><th>Events</th><th>Videos</th></tr></thead>{rows}</table>"


def _label_row(time: LabelTime, number: int) -> str:
    apart = ' class="apart"' if time.label == BACKGROUND else ""
    name = as_html(time.label)
    cells = "".join(f"<td>{text}</td>" for text in (_clock(time.seconds), f"{time.events:,}", f"{time.videos:,}"))
    return (
        f'<tr data-label="{number}"{apart}><td title="{name}"><button type="button" aria-pressed="false">'
        f"<bdi>{name}</bdi></button></td>{cells}</tr>"
    )


def unread_html(videos: pa.Table) -> str:
    """Returns what was not read, or only in part, by reason, with some videos of each; empty if there is nothing."""
    rows = [
        row for row in videos.select(["video", "status", "error_kind", "error"]).to_pylist() if row["status"] != "ok"
    ]
    if not rows:
        return ""
    by_kind: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        by_kind.setdefault((row["status"], row["error_kind"] or "unknown"), []).append(row)
    lines = []
    for (status, kind), found in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        what = "not read" if status == "failed" else "read in part"
        shown = "".join(f"<li><bdi>{as_html(row['error'] or row['video'])}</bdi></li>" for row in found[:EXAMPLES])
        more = f"<li>and {len(found) - EXAMPLES:,} more</li>" if len(found) > EXAMPLES else ""
        lines.append(f"<li><b>{as_html(kind)}</b>: {_count(len(found), 'video')} {what}<ul>{shown}{more}</ul></li>")
    summary = f"<summary>{_count(len(rows), 'video')} not read to the end</summary>"
    return f"<details>{summary}<ul>{''.join(lines)}</ul></details>"


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.cast(pa.float64()).fill_null(0.0))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} hours"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours:,}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
