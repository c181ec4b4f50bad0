"""``--only`` tags ranges of videos: the rows are those of the whole videos, and the result is one of its own.

Videos are decoded and classified in this process, without Ray.
"""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.archive.selection import Selection
from jobs.browse.events import Rules, find_events
from jobs.browse.segments import open_result
from jobs.errors import Interrupted
from jobs.result.output import find_output
from jobs.result.published import read_result
from jobs.result.rewrite.compact import compact
from jobs.result.verify import verify
from jobs.tagging.dry_run import dry_run
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import MaxPrune, RunConfig
from tagger.errors import InputError, OutputError
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
    """Three videos of 12 s."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "abc":
        encode(folder / f"{name}.mp4", seconds=12, rate=10)
    return folder


@pytest.fixture(params=["tags.parquet", "tags"])
def config(request: pytest.FixtureRequest, archive: Path, model_file: Path, tmp_path: Path) -> RunConfig:
    only = {str(archive / "a.mp4"): [(3.0, 3.5), (11.0, 20.0)], str(archive / "c.mp4"): [(0.0, 6.4)]}
    return RunConfig((str(archive),), tmp_path / request.param, model=str(model_file), device="cpu", only=only)


def rows(out: str | Path) -> list[dict[str, object]]:
    result = read_result(find_output(out))
    assert result is not None
    return [row for source in result.sources for row in pq.read_table(source.tags.path).to_pylist()]


def test_the_rows_are_those_of_the_whole_videos_that_overlap_a_range(
    config: RunConfig, archive: Path, tmp_path: Path, read: list[str]
) -> None:
    config = replace(config, hop_s=1.0)
    summary = run_job(make_plan(config))
    assert read == ["a.mp4", "c.mp4"]
    assert summary.only == Selection(videos=2, ranges=3, left_out=1, missing=0, first_missing=None)
    assert (summary.videos, summary.ok, summary.new, summary.failures) == (2, 2, 2, ())
    whole = tmp_path / "whole.parquet"
    run_job(make_plan(replace(config, only=None, out=whole)))
    assert config.only is not None
    assert rows(config.out) == [
        row
        for row in rows(whole)
        for video, start_s, end_s in [(str(row["video"]), float(str(row["start_s"])), float(str(row["end_s"])))]
        if any(first < end_s - 1e-3 and last > start_s + 1e-3 for first, last in config.only.get(video, ()))
    ]
    assert {row["segment"] for row in rows(config.out) if str(row["video"]).endswith("a.mp4")} == {1, 2, 3, 9, 10}


def test_the_same_command_again_reads_nothing_and_a_changed_video_in_its_ranges(
    config: RunConfig, archive: Path, read: list[str]
) -> None:
    run_job(make_plan(config))
    before = rows(config.out)
    assert make_plan(config).is_done
    # In another order, and by other names of the same files.
    only = {f"file://{archive}/c.mp4": [(3.0, 6.4), (0.0, 4.0)], f"{archive}/./a.mp4": [(11, 20), (3, 3.5)]}
    assert make_plan(replace(config, only=only)).is_done
    encode(archive / "c.mp4", seconds=3, rate=10)
    encode(archive / "b.mp4", seconds=3, rate=10)
    read.clear()
    assert run_job(make_plan(config)).changed == 1
    assert read == ["c.mp4"]
    assert [row for row in rows(config.out) if "a.mp4" in str(row["video"])] == [
        row for row in before if "a.mp4" in str(row["video"])
    ]
    assert [row["end_s"] for row in rows(config.out)][-1] == pytest.approx(3.0)


def test_other_ranges_or_none_are_refused_for_the_same_result(config: RunConfig, archive: Path) -> None:
    run_job(make_plan(config))
    with pytest.raises(OutputError, match=r"was made with other ranges \(--only of 3 ranges, \w{12}\); use --over"):
        make_plan(replace(config, only={str(archive / "a.mp4"): [(3.0, 3.5)]}))
    with pytest.raises(OutputError, match=r"was made with ranges only \(--only of 3 ranges, \w{12}\); use --over"):
        make_plan(replace(config, only=None))
    assert make_plan(replace(config, only=None, overwrite=True)).replaces


def test_ranges_are_refused_for_a_result_of_whole_videos(config: RunConfig) -> None:
    run_job(make_plan(replace(config, only=None)))
    with pytest.raises(OutputError, match=r"was made with whole videos, without --only; use --overwrite"):
        make_plan(config)


def test_an_interrupted_run_continues_with_the_same_ranges_only(
    config: RunConfig, archive: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("jobs.tagging.run.publish", interrupt)
        run_job(make_plan(config))
    with pytest.raises(OutputError, match=r"holds an interrupted run with other ranges \(--only of 3 ranges, "):
        make_plan(replace(config, only={str(archive / "a.mp4"): [(0.0, 1.0)]}))
    read.clear()
    assert run_job(make_plan(config)).videos == 2
    assert read == []


def test_a_renamed_video_is_read_in_the_ranges_of_its_new_name(
    config: RunConfig, archive: Path, read: list[str]
) -> None:
    only = {str(archive / "a.mp4"): [(0.0, 1.0)], str(archive / "z.mp4"): [(5.0, 6.0)]}
    config = replace(config, only=only)
    run_job(make_plan(config))
    (archive / "a.mp4").rename(archive / "z.mp4")
    read.clear()
    summary = run_job(make_plan(replace(config, prune=True, max_prune=MaxPrune(videos=1))))
    assert (summary.moved, summary.new, summary.pruned, read) == (0, 1, 1, ["z.mp4"])
    assert [(Path(str(row["video"])).name, row["segment"]) for row in rows(config.out)] == [("z.mp4", 2)]


def test_the_dry_run_counts_the_windows_of_the_ranges(config: RunConfig, archive: Path) -> None:
    found = dry_run(make_plan(config))
    assert config.only is not None
    assert (found.videos, found.windows) == (2, 5)
    assert found.only == Selection(videos=2, ranges=3, left_out=1, missing=0, first_missing=None)
    only = {**config.only, str(archive / "gone.mp4"): [(0.0, 1.0)]}
    found = dry_run(make_plan(replace(config, only=only)))
    assert found.only == Selection(videos=2, ranges=3, left_out=1, missing=1, first_missing=str(archive / "gone.mp4"))


def test_ranges_of_no_video_in_the_inputs_are_an_error(config: RunConfig) -> None:
    with pytest.raises(InputError, match=r"no video of --only is in the inputs; the first of 1 is /gone/a\.mp4"):
        make_plan(replace(config, only={"/gone/a.mp4": [(0.0, 1.0)]}))


def test_a_range_after_the_end_of_a_video_gives_a_video_without_segments(config: RunConfig, archive: Path) -> None:
    config = replace(config, only={str(archive / "a.mp4"): [(12.5, 20.0)]})
    summary = run_job(make_plan(config))
    assert (summary.ok, summary.segments, summary.failures) == (1, 0, ())
    assert verify(str(config.out)).problem is None
    assert make_plan(config).is_done
    with pytest.raises(OutputError, match=r"no segments: no window could be read in its ranges \(--only\)"):
        list(find_events(open_result(str(config.out)), Rules()))


def test_verify_and_compact_take_the_result_and_events_end_where_it_was_not_looked_at(config: RunConfig) -> None:
    run_job(make_plan(replace(config, hop_s=1.0)))
    assert verify(str(config.out)).problem is None
    finished = open_result(str(config.out))
    for rules in (Rules(), Rules(smooth=5)):
        for events in find_events(finished, rules):
            for event in events.to_pylist():
                if event["video"].endswith("a.mp4"):
                    # Segments 1 to 3, then 9 and 10.
                    assert event["end_s"] <= 5.2 or event["start_s"] >= 9.0
    if find_output(str(config.out)).is_folder:
        compact(str(config.out))
        assert verify(str(config.out)).problem is None
        assert make_plan(replace(config, hop_s=1.0)).is_done


def test_a_missing_number_is_still_a_mistake_in_a_result_of_whole_videos(config: RunConfig, tmp_path: Path) -> None:
    config = replace(config, out=tmp_path / "t.parquet")
    run_job(make_plan(config))
    tags = pq.read_table(tmp_path / "t.parquet")
    metadata = {key: value for key, value in tags.schema.metadata.items() if key != b"vtag.only"}
    for name in ("t.parquet", "t.videos.parquet"):
        pq.write_table(pq.read_table(tmp_path / name).replace_schema_metadata(metadata), tmp_path / name)
    assert "are missing or wrong (from number 0)" in (verify(str(config.out)).problem or "")
