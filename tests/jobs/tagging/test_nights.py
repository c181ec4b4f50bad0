"""A nightly run costs what has changed: it reads no segments of videos that are as they were.

Files whose segments must not be read have damaged data behind a good footer, so that reading them is an error.
"""

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.result.output import find_output
from jobs.result.published import read_result
from jobs.result.verify import verify
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Summary
from tests.jobs.tagging.driver_in_this_process import DriverInThisProcess
from tests.videos import encode


@pytest.fixture(autouse=True)
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the videos that were read."""
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverInThisProcess)
    monkeypatch.setattr(DriverInThisProcess, "read", [])
    return DriverInThisProcess.read


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    encode(folder / "a.mp4", seconds=6, rate=10)
    return folder


@pytest.fixture
def folder_config(archive: Path, model_file: Path, tmp_path: Path) -> RunConfig:
    return RunConfig((str(archive),), tmp_path / "tags", model=str(model_file), device="cpu")


@pytest.fixture(params=["tags.parquet", "tags"])
def config(request: pytest.FixtureRequest, folder_config: RunConfig) -> RunConfig:
    return replace(folder_config, out=folder_config.out.with_name(request.param))


def run(config: RunConfig) -> Summary:
    return run_job(make_plan(config))


def damage_segments(config: RunConfig, *, parts: slice = slice(None)) -> None:
    """Overwrites the rows of the tags, but not their footers, in these parts of the result."""
    result = read_result(find_output(config.out))
    assert result is not None
    for source in result.sources[parts]:
        path = Path(source.tags.path)
        data = bytearray(path.read_bytes())
        footer = int.from_bytes(data[-8:-4], "little") + 8
        data[4:-footer] = bytes(len(data) - footer - 4)
        # A new file: another name of the old one would show the damage, too.
        path.unlink()
        path.write_bytes(data)
        with pytest.raises(OSError, match=r"."):
            pq.read_table(path)


def of_the_result(summary: Summary) -> dict[str, object]:
    """Returns the figures of a summary that are about the result."""
    names = ("videos", "ok", "partial", "failed", "segments", "video_s", "top_labels", "background")
    return {name: asdict(summary)[name] for name in names}


def test_a_run_that_finds_nothing_new_reads_no_segment(config: RunConfig, archive: Path, read: list[str]) -> None:
    encode(archive / "b.mp4", seconds=3, rate=10)
    (archive / "empty.mp4").touch()
    before = run(config)
    damage_segments(config)
    read.clear()
    after = run(config)
    assert (after.kept, read) == (3, [])
    assert of_the_result(after) == of_the_result(before)
    assert (before.failed, len(before.failures), after.failures) == (1, 1, ())


def test_a_run_with_new_videos_reads_no_segment_of_the_other_parts(
    folder_config: RunConfig, archive: Path, read: list[str]
) -> None:
    config = folder_config
    run(config)
    encode(archive / "b.mp4", seconds=3, rate=10)
    run(config)
    damage_segments(config)
    encode(archive / "c.mp4", seconds=4, rate=10)
    summary = run(config)
    assert read == ["a.mp4", "b.mp4", "c.mp4"]
    assert (summary.videos, summary.segments) == (3, 7)
    assert sum(label.segments for label in summary.top_labels) == 7


def test_a_touched_video_reads_no_segment_of_parts_that_it_is_not_in(folder_config: RunConfig, archive: Path) -> None:
    config = folder_config
    for name in "bcd":
        run(config)
        shutil.copy(archive / "a.mp4", archive / f"{name}.mp4")
    before = run(config)
    damage_segments(config, parts=slice(0, 1))
    damage_segments(config, parts=slice(2, 4))
    os.utime(archive / "b.mp4", ns=(1, 1_600_000_000_000_000_000))
    after = run(config)
    assert (after.touched, after.kept) == (1, 4)
    assert of_the_result(after) == of_the_result(before)


def test_a_result_without_totals_is_counted(config: RunConfig, archive: Path) -> None:
    before = run(config)
    output = find_output(config.out)
    if output.is_folder:
        manifest = json.loads(output.manifest.read_text())
        assert manifest["parts"][0].pop("totals")["segments"] == 3
        output.manifest.write_text(json.dumps(manifest))
    else:
        table = pq.read_table(config.out)
        pq.write_table(table, config.out)
    assert of_the_result(run(config)) == of_the_result(before)
    encode(archive / "b.mp4", seconds=3, rate=10)
    assert run(config).segments == 5
    damage_segments(config)
    assert run(config).segments == 5


def test_verify_compares_the_totals_with_the_rows(config: RunConfig) -> None:
    run(config)
    output = find_output(config.out)
    assert verify(str(config.out)).problem is None
    if output.is_folder:
        output.manifest.write_text(output.manifest.read_text().replace('"video_s": 6.0', '"video_s": 7.0'))
    else:
        data = config.out.read_bytes()
        assert data.count(b'"video_s": 6.0') == 1
        config.out.write_bytes(data.replace(b'"video_s": 6.0', b'"video_s": 7.0'))
    problem = verify(str(config.out)).problem
    assert problem is not None and "have other totals than those kept with them" in problem
