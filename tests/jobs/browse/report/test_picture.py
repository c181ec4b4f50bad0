"""Small pictures of moments."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from jobs.browse.cutting.source import Source
from jobs.browse.report.picture import MAX_HEIGHT, MAX_WIDTH, pictures_of
from tagger.errors import VideoError
from tests.videos import encode, picture


def decoded(jpeg: bytes) -> np.ndarray:
    with av.open(io.BytesIO(jpeg), format="jpeg_pipe") as file:
        (frame,) = file.decode(video=0)
        return frame.to_ndarray(format="rgb24")


def test_a_picture_shows_the_frame_at_its_time(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", seconds=4, options={"crf": "10"})
    for number, jpeg in zip((0, 45, 100), pictures_of(tmp_path / "a.mp4", [0, 1.5, 100 / 30], 4.0), strict=True):
        assert jpeg is not None
        found, expected = (array.astype(float) for array in (decoded(jpeg), picture(number, 96, 64)))
        other = picture(number + 20, 96, 64).astype(float)
        assert np.abs(found - expected).mean() < np.abs(found - other).mean() / 2


@pytest.mark.parametrize(
    ("size", "rotation", "shape"),
    [((640, 480), 0, (90, 120)), ((640, 480), 90, (90, 68)), ((1280, 320), 0, (40, 160)), ((96, 64), 180, (64, 96))],
)
def test_a_picture_is_upright_and_small(
    tmp_path: Path, size: tuple[int, int], rotation: int, shape: tuple[int, int]
) -> None:
    width, height = size
    encode(tmp_path / "a.mp4", frames=3, width=width, height=height, rotation=rotation)
    (jpeg,) = pictures_of(tmp_path / "a.mp4", [0.0], None)
    assert jpeg is not None
    assert decoded(jpeg).shape == (*shape, 3)
    assert shape[0] <= MAX_HEIGHT and shape[1] <= MAX_WIDTH


def test_only_the_frames_from_the_key_frame_before_a_moment_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "a.mp4", seconds=20, rate=10, options={"g": "10"})
    decoded_s: list[float] = []
    frames = Source.frames

    def counted(*given: Any) -> Iterator[tuple[Any, float]]:
        for item, time_s in frames(*given):
            decoded_s.append(time_s)
            yield item, time_s

    monkeypatch.setattr(Source, "frames", counted)
    assert None not in pictures_of(tmp_path / "a.mp4", [12.5, 17.5], 20.0)
    # Key frames are at whole seconds.
    assert sorted({int(time_s) for time_s in decoded_s}) == [12, 17]


def test_a_time_after_the_end_has_no_picture_and_a_text_is_no_video(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", seconds=1)
    assert pictures_of(tmp_path / "a.mp4", [9.0], 1.0) == [None]
    (tmp_path / "text.mp4").write_text("text")
    with pytest.raises(VideoError):
        pictures_of(tmp_path / "text.mp4", [0.0], None)
