"""Tests of truncated files, cut at any byte: the start is read, and the damage is reported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.tagger.whole import DELAY, Whole, read_start
from tests.tagger.zoo import video
from tests.videos import encode

SMALL: dict[str, Any] = {"frames": 18, "width": 48, "height": 32}


@dataclass(frozen=True)
class Format:
    """How to make a small video, and what a cut leaves of it.

    ``detected``: a cut file is ``ok`` only when no frame is missing. ``streams``: a stream can be cut anywhere, so the
    rest may look like a complete file. ``index last``: without its end the file cannot be read.
    """

    settings: dict[str, Any]
    cut: Literal["detected", "streams", "index last"] = "detected"


FORMATS = {
    "index first.mp4": Format({"container_options": {"movflags": "faststart"}}),
    "index last.mp4": Format({}, "index last"),
    "fragments.mp4": Format(
        {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "6"}}, "streams"
    ),
    "h264.mkv": Format({}),
    "vp8.webm": Format({"codec": "libvpx"}),
    "mpeg4.avi": Format({"codec": "mpeg4"}),
    "flv1.flv": Format({"codec": "flv"}),
    "wmv2.wmv": Format({"codec": "wmv2"}),
    "h264.ts": Format({"options": {"bf": "0"}}, "streams"),
    "mpeg1.mpg": Format({"codec": "mpeg1video"}, "streams"),
    "picture.gif": Format({"codec": "gif", "rate": 25}, "streams"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_at_any_byte_keeps_the_windows_before_the_cut_and_is_reported_as_damaged(
    name: str, tmp_path: Path
) -> None:
    settings = SMALL | FORMATS[name].settings
    whole = Whole.of(encode(tmp_path / name, **settings), video(**settings))
    size, frames = len(whole.data), len(whole.starts_s)
    cuts = {*range(200), *range(size - 200, size), *range(0, size, size // 40)}
    path = tmp_path / f"cut{Path(name).suffix}"
    for at in sorted(cuts):
        path.write_bytes(whole.data[:at])
        end, count = read_start(path, whole, at)
        complete = whole.frames_before(at)
        if FORMATS[name].cut == "index last":
            assert (end.status, count) in [("failed", 0), ("ok", frames)], at
        else:
            assert count >= complete - DELAY, at
        if end.status == "ok" and FORMATS[name].cut != "streams":
            assert count == frames, at
