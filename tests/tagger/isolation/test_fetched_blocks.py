"""A decoder process reads a video whose blocks its parent fetches."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tagger.clips import Span, read_spans
from tagger.errors import VideoError
from tagger.isolation import DecoderProcess, Limits
from tagger.preprocessing import Preprocessing
from tagger.video.fetched_file import BlockCache, Blocks
from tagger.windows import Part, Sampling
from tests.videos import encode

SAMPLING = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0)  # 0.4 s
PREPROCESSING = Preprocessing(size=32, resize=32)
BLOCK_BYTES = 4096


@pytest.fixture
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess() as decoder:
        yield decoder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of five windows."""
    return encode(tmp_path / "a.mp4", seconds=2)


def blocks_of(video: Path, before_fetch: Callable[[int], None] = lambda block: None) -> tuple[Path, Blocks]:
    """Returns an empty file in place of ``video``, and the blocks of the video."""
    content, empty, cache = video.read_bytes(), video.with_name("empty.mp4"), video.with_name("cache")
    for path, size in ((empty, len(content)), (cache, 0)):
        path.touch()
        os.truncate(path, size)

    def fetch(block: int, slot: int) -> None:
        before_fetch(block)
        with cache.open("r+b") as file:
            file.seek(slot * BLOCK_BYTES)
            file.write(content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES])

    return empty, Blocks(BlockCache(str(cache), 2, BLOCK_BYTES), fetch)


def spans_of(decoder: DecoderProcess, empty: Path, blocks: Blocks, part: Part | None = None) -> list[Span]:
    spans = decoder.spans(empty, SAMPLING, PREPROCESSING, span_windows=2, reader="pyav", part=part, blocks=blocks)
    return [Span(span.windows, span.clips.copy(), span.end) for span in spans]


def assert_is_whole(spans: list[Span], video: Path) -> None:
    expected = list(read_spans(video, SAMPLING, PREPROCESSING, span_windows=2, reader="pyav"))
    assert [span.windows for span in spans] == [span.windows for span in expected]
    for span, whole in zip(spans, expected, strict=True):
        assert np.array_equal(span.clips, whole.clips)
    assert spans[-1].end is not None and spans[-1].end.status == "ok"


def test_the_windows_are_those_of_the_video(decoder: DecoderProcess, video: Path) -> None:
    empty, blocks = blocks_of(video)
    assert_is_whole(spans_of(decoder, empty, blocks), video)
    # The next video of the same process is a local one.
    assert_is_whole(list(decoder.spans(video, SAMPLING, PREPROCESSING, span_windows=2, reader="pyav")), video)
    assert decoder.started == 1


def test_the_time_to_fetch_a_block_is_no_time_without_progress(video: Path) -> None:
    slow = iter([1.5])
    empty, blocks = blocks_of(video, lambda block: time.sleep(next(slow, 0.0)))
    with DecoderProcess(Limits(frame_s=1.0)) as decoder:
        assert_is_whole(spans_of(decoder, empty, blocks), video)
        assert decoder.started == 1


@pytest.mark.parametrize("part", [None, Part(0, 2)])
def test_a_block_that_cannot_be_fetched_ends_the_video_with_its_error(
    decoder: DecoderProcess, video: Path, part: Part | None
) -> None:
    def fail(block: int) -> None:
        raise VideoError("io", "s3://bucket/a.mp4 cannot be read: the service fails")

    empty, blocks = blocks_of(video, fail)
    (span,) = spans_of(decoder, empty, blocks, part)
    assert span.end is not None
    assert (span.end.status, span.end.error_kind) == ("failed", "io")
    assert span.end.error == "s3://bucket/a.mp4 cannot be read: the service fails"
    empty, blocks = blocks_of(video)
    assert_is_whole(spans_of(decoder, empty, blocks), video)
    assert decoder.started == 2


@pytest.mark.parametrize("asked", ["[-1, 0]", "[0, 2]", "[0]", '"all"', "[0.5, 0]"])
def test_a_process_that_asks_for_what_is_no_block_has_crashed(
    asked: str, video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "odd_child.py").write_text(
        "import json\nfrom tagger.isolation import child\n"
        f"child._read = lambda channel, *_: child.send(channel, {{'fetch': json.loads('{asked}')}})\nchild.main()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tagger.isolation.process.CHILD_MODULE", "odd_child")
    empty, blocks = blocks_of(video, lambda block: pytest.fail("it was fetched"))
    with DecoderProcess() as decoder:
        (span,) = spans_of(decoder, empty, blocks, Part(0, 2))
    assert span.end is not None and span.end.error_kind == "crashed"
    assert "sent an invalid message" in str(span.end.error)
