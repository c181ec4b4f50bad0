"""Puts a page together from its parts, the files in ``page/``: one HTML file that makes no request."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from string import Template

import numpy as np

import tagger
from jobs.browse.marks import Mark, label_of
from jobs.browse.report.gather import ReportData
from jobs.browse.report.overview import as_html, facts, facts_html, labels_html, lead, unread_html
from jobs.browse.report.packed_columns import Column, as_text, pack
from jobs.browse.report.page_data import Base, pack_segments, pack_videos
from jobs.browse.result_model import is_named
from jobs.browse.segments import FinishedResult
from jobs.result.output import find_output
from tagger.windows import Sampling
from training.report.style import style_file

SCRIPTS = (
    "unpack.js",
    "words.js",
    "result.js",
    "filters.js",
    "colours.js",
    "timeline.js",
    "marks.js",
    "player.js",
    "inspector.js",
    "list.js",
    "served.js",
    "page.js",
)
"""The files of the script, in their order."""

GENERATOR = '<meta name="generator" content="vtag report">'
"""A line of every report, by which it is told from other pages."""


@dataclass(frozen=True)
class Thumbnails:
    """JPEGs of the segments ``rows``, sorted. A page that is served has no JPEGs: it asks for them."""

    rows: Sequence[int] = ()
    jpegs: Sequence[bytes] = ()


def make_page(
    finished: FinishedResult,
    data: ReportData,
    thumbnails: Thumbnails = Thumbnails(),
    *,
    base: Base | None = None,
    marks: Sequence[Mark] = (),
    marks_file: str | None = None,
) -> str:
    """Returns the page as HTML. All names and labels are escaped here.

    ``base``: where videos are played from, if not from their own places. ``marks``: the page begins with them.
    ``marks_file``: the page is one that ``vtag view`` serves, and saves its marks there.
    """
    identity = finished.result.identity
    about = {
        "tags": str(find_output(finished.path).out),
        "model": identity.model,
        "isNamed": is_named(identity.model),
        "hasEmbeddings": identity.embeddings is not None,
        "windowMs": round(Sampling(**identity.sampling).window_s * 1000),
        "base": None if base is None else asdict(base),
        "given": _given(marks),
        "isServed": marks_file is not None,
        "marksFile": marks_file,
    }
    blocks = [_block("data-videos", pack_videos(data, about)), _block("data-segments", pack_segments(data))]
    if len(thumbnails.rows):
        columns = [Column("row", np.array(thumbnails.rows, np.int64), delta=True)]
        if thumbnails.jpegs:
            columns.append(Column("size", np.array([len(jpeg) for jpeg in thumbnails.jpegs])))
            blocks.append(_block("data-pictures", b"".join(thumbnails.jpegs)))
        blocks.append(_block("data-thumbnails", pack({}, columns)))
    style = style_file("style.css") + _file("page.css")
    script = f'(() => {{\n"use strict";\n{"".join(map(_file, SCRIPTS))}}})();'
    numbers = {label: number for number, label in enumerate(data.labels)}
    return Template(_file("page.html")).substitute(
        policy=content_policy(style, script, is_served=marks_file is not None),
        title=as_html(find_output(finished.path).out.name or finished.path),
        style=style,
        lead=lead(data),
        labels=labels_html(data.times, numbers),
        facts=facts_html(facts(finished, tagger.__version__)),
        unread=unread_html(data.videos),
        save="Save marks.csv" if marks_file is None else "Save a copy",
        save_key="save marks.csv"
        if marks_file is None
        else "save a copy of the marks, which are in their file already",
        blocks="\n".join(blocks),
        script=script,
    )


def _given(marks: Sequence[Mark]) -> dict[str, object] | None:
    """Returns the marks for the script: each with its times in ms. By their version, a browser adds them once."""
    if not marks:
        return None
    rows = [[mark.video, round(mark.start_s * 1000), round(mark.end_s * 1000), label_of(mark)] for mark in marks]
    return {"version": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16], "rows": rows}


def _file(name: str) -> str:
    return files("jobs.browse.report").joinpath("page", name).read_text("utf-8")


def _block(name: str, content: bytes) -> str:
    return f'<script type="text/plain" id="{name}">{as_text(content)}</script>'


def content_policy(style: str, script: str, *, is_served: bool) -> str:
    """Returns the Content-Security-Policy: this script and this style alone, and videos from their places."""
    own = "'self'" if is_served else "file: http: https:"
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": f"blob: data:{' ' + own if is_served else ''}",
        "media-src": own,
        "connect-src": "'self'" if is_served else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return as_html("; ".join(f"{name} {value}" for name, value in policy.items())).replace("&#x27;", "'")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
