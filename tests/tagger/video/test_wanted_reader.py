"""``--reader``: a user may ask for a reader; what decord reads wrong is read with PyAV, and the reason is recorded."""

from pathlib import Path

import numpy as np
import pytest

from tagger import Preprocessing, Sampling
from tagger.clips import Span, read_spans
from tagger.isolation import DecoderProcess
from tagger.video.choose import has_decord
from tagger.video.readers.reader import WantedReader
from tests.videos import encode

SMALL = Preprocessing(32, 32)


def read(path: Path, reader: WantedReader) -> list[Span]:
    with DecoderProcess() as decoder:
        return [
            Span(span.windows, span.clips.copy(), span.end)
            for span in decoder.spans(path, Sampling(), SMALL, reader=reader)
        ]


def test_pyav_reads_what_decord_would_read_by_the_rule(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.webm", codec="libvpx-vp9", seconds=2)
    end = read(path, "pyav")[-1].end
    assert end is not None and end.choice is not None
    assert (end.choice.decoder, end.choice.reason) == ("pyav", None)


@pytest.mark.skipif(not has_decord(), reason="decord is not installed")
def test_decord_reads_what_pyav_would_read_by_the_rule_and_gives_the_same_windows(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=5)
    found, usual = read(path, "decord"), list(read_spans(path, Sampling(), SMALL))
    end = found[-1].end
    assert end is not None and end.choice is not None and end.choice.decoder == "decord"
    assert [span.windows for span in found] == [span.windows for span in usual]
    for span, other in zip(found, usual, strict=True):
        assert np.abs(span.clips.astype(int) - other.clips).mean() < 4


@pytest.mark.skipif(not has_decord(), reason="decord is not installed")
@pytest.mark.parametrize(
    ("name", "rotation", "reason"),
    [
        ("a.ts", 0, "decord is not trusted with mpegts files"),
        ("a.mp4", 90, "decord ignores the rotation by 90 degrees"),
    ],
)
def test_decord_refuses_by_name_what_it_reads_wrong(name: str, rotation: int, reason: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, seconds=2, rotation=rotation)
    end = read(path, "decord")[-1].end
    assert end is not None and end.choice is not None
    assert (end.status, end.choice.decoder, end.choice.reason) == ("ok", "pyav", reason)
