"""A disk that fails while a video is read is an error of its own (``io``), never damage of the video."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tagger import Preprocessing, Sampling
from tagger.clips import read_spans
from tagger.errors import VideoError
from tagger.video import container
from tagger.video.facts import probe
from tests.videos import encode

READ = """
import json, sys
from tagger import Preprocessing, Sampling
from tagger.clips import read_spans

for path in sys.argv[1:]:
    *_, last = spans = list(read_spans(path, Sampling(), Preprocessing(size=32, resize=32)))
    windows = sum(len(span.windows) for span in spans)
    print(json.dumps([last.end.status, last.end.error_kind, last.end.error, windows]))
"""

FORMATS = {
    "mp4": "libx264",
    "mkv": "libx264",
    "mov": "mpeg4",
    "avi": "mpeg4",
    "ts": "libx264",
    "webm": "libvpx",
    "flv": "flv",
    "mpg": "mpeg1video",
    "wmv": "wmv2",
}


@pytest.fixture(scope="module")
def faulty_reads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes reads fail."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("faulty") / "faulty_reads.so"
    source = Path(__file__).with_name("faulty_reads.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A video of eight seconds in each format."""
    folder = tmp_path_factory.mktemp("on-a-failing-disk")
    return [encode(folder / f"a.{ending}", codec=codec, seconds=8) for ending, codec in FORMATS.items()]


@pytest.fixture(scope="module", params=[1, None], ids=["one read fails", "the second half cannot be read"])
def ends(request: pytest.FixtureRequest, faulty_reads: Path, videos: list[Path]) -> dict[str, list]:
    """The end of each video on the failing disk, by format: status, error kind, error, number of windows."""
    count = {} if request.param is None else {"FAULTY_COUNT": str(request.param)}
    environment = os.environ | count | {"FAULTY_FOLDER": videos[0].parent.name, "LD_PRELOAD": str(faulty_reads)}
    done = subprocess.run([sys.executable, "-c", READ, *videos], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(FORMATS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_a_failing_disk_is_no_damage_of_the_video(name: str, ends: dict[str, list], videos: list[Path]) -> None:
    status, kind, error, windows = ends[name]
    path = videos[list(FORMATS).index(name)]
    assert (kind, error) == ("io", f"{path} cannot be read: Input/output error")
    assert status == ("partial" if windows else "failed")


def test_windows_before_the_error_are_kept(ends: dict[str, list]) -> None:
    assert ends["mkv"][3] > 0


def test_the_next_reading_of_the_file_knows_nothing_of_the_error(
    videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(container.WatchedFile):
        def read(self, count: int) -> bytes:
            self._file.close()
            self._file = (videos[0].parent / "elsewhere").open("wb")  # type: ignore[assignment]
            return super().read(count)

    with monkeypatch.context() as patch:
        patch.setattr(container, "WatchedFile", Failing)
        with pytest.raises(VideoError):
            probe(videos[0])
    *_, last = read_spans(videos[0], Sampling(), Preprocessing(size=32, resize=32))
    assert last.end is not None and last.end.status == "ok"


def test_a_file_that_cannot_be_opened_for_reasons_of_the_disk_is_an_error_of_the_disk(
    videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(container.os, "open", fail)
    with pytest.raises(VideoError, match="cannot be read: Stale file handle") as raised:
        probe(videos[0])
    assert raised.value.kind == "io"
