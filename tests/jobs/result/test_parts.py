"""Promises to the readers of a result that is a folder: of its manifest, and of ``*.parquet``."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.result.compare.runs import repeated_names
from jobs.result.ledger import committed_parts, remove
from jobs.result.output import choose_output
from jobs.result.parts import FEW_PARTS, Part, without_small
from jobs.result.publish import publish
from jobs.result.published import complete, read_result
from jobs.result.rewrite.compact import compact
from jobs.result.verify import verify
from jobs.storage.location import locate
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from tagger.errors import OutputError
from tests.jobs.result.finished import IDENTITY, commit_to, make_finished, publish_to
from tests.jobs.s3_server import Bucket
from tests.jobs.tagging.killed import DriverWithoutRay

Manifest = dict[str, Any]


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A folder with two parts: the videos a and b, and the video c."""
    publish_to(tmp_path / "result", [make_finished("/v/a.mp4", "aa"), make_finished("/v/b.mp4", "b")])
    publish_to(tmp_path / "result", [make_finished("/v/c.mp4", "c")])
    return tmp_path / "result"


def publish_change(result: Path, labels: str) -> None:
    """Publishes a run that has read the video c again."""
    publish_to(result, [make_finished("/v/c.mp4", labels, mtime_ns=len(labels))])


def read_manifest(result: Path) -> Manifest:
    found: Manifest = json.loads((result / "manifest.json").read_text())
    return found


def labels(files: list[Path]) -> str:
    """Returns the labels of all segments, sorted by video."""
    rows = [row for file in files for row in pq.read_table(file, columns=["video", "label"]).to_pylist()]
    return "".join(row["label"] for row in sorted(rows, key=lambda row: str(row["video"])))


def listed(result: Path, manifest: Manifest) -> str:
    """Returns the labels that a program finds which has read ``manifest``. Fails if a file is gone."""
    for part in manifest["parts"]:
        assert pq.read_metadata(result / part["videos_file"]).num_rows == part["videos"]
    return labels([result / part["tags_file"] for part in manifest["parts"]])


def shown(result: Path) -> str:
    """Returns the labels that a reader of ``*.parquet`` finds."""
    return labels(list((result / "tags").glob("*.parquet")))


def numbers(manifest: Manifest) -> list[int]:
    return [part["number"] for part in manifest["parts"]]


def kept_files(result: Path) -> list[int]:
    """Returns the numbers of the files with segments in ``parts/``."""
    return sorted(int(path.name.split(".")[0].removeprefix("part-")) for path in result.glob("parts/*.tags.parquet"))


def files(result: Path) -> dict[str, int]:
    return {str(path.relative_to(result)): path.stat().st_ino for path in result.rglob("*") if path.is_file()}


class TestReadersOfTheManifest:
    def test_the_files_of_a_manifest_stay_for_one_more_publication(self, result: Path) -> None:
        yesterday = read_manifest(result)
        publish_change(result, "xy")
        today = read_manifest(result)
        assert (listed(result, yesterday), listed(result, today)) == ("aabc", "aabxy")
        publish_change(result, "z")
        assert (listed(result, today), listed(result, read_manifest(result))) == ("aabxy", "aabz")
        with pytest.raises(FileNotFoundError):
            listed(result, yesterday)

    def test_the_files_of_pruned_videos_stay_for_one_more_publication(self, result: Path) -> None:
        yesterday = read_manifest(result)
        publish_to(result, drop=["/v/a.mp4", "/v/b.mp4"])
        assert (listed(result, yesterday), listed(result, read_manifest(result)), shown(result)) == ("aabc", "c", "c")

    def test_a_publication_that_is_repeated_after_an_interruption_removes_no_files_of_the_manifest_before(
        self, result: Path
    ) -> None:
        yesterday = read_manifest(result)
        output = choose_output(result)
        ledger = commit_to(output, [make_finished("/v/c.mp4", "x", mtime_ns=2)])
        for _ in range(3):
            publish(output, IDENTITY, ledger.run_id, read_result(output), committed_parts(output.run_folder))
            assert (listed(result, yesterday), listed(result, read_manifest(result))) == ("aabc", "aabx")
            assert shown(result) == "aabx"
        remove(output.run_folder)
        publish_change(result, "yz")
        today = read_manifest(result)
        assert kept_files(result) == sorted([*numbers(today), *today["previous"]])

    def test_a_result_that_is_started_over_keeps_the_files_of_the_one_before(self, result: Path) -> None:
        yesterday = read_manifest(result)
        output = choose_output(result)
        ledger = commit_to(output, [make_finished("/v/c.mp4", "x")], replaces=True)
        publish(output, IDENTITY, ledger.run_id, None, committed_parts(output.run_folder))
        assert (listed(result, yesterday), listed(result, read_manifest(result)), shown(result)) == ("aabc", "x", "x")

    def test_compact_removes_the_files_of_earlier_parts(self, result: Path) -> None:
        publish_change(result, "xy")
        compact(str(result))
        assert kept_files(result) == numbers(read_manifest(result)) == [3]
        assert (listed(result, read_manifest(result)), shown(result)) == ("aabxy", "aabxy")
        assert read_manifest(result)["previous"] == []

    def test_compact_to_another_place_removes_nothing(self, result: Path) -> None:
        yesterday = read_manifest(result)
        publish_change(result, "xy")
        before = files(result)
        compact(str(result), str(result.with_name("t.parquet")))
        assert files(result) == before
        assert listed(result, yesterday) == "aabc"

    def test_a_number_is_not_used_again_while_a_file_with_it_is_there(self, result: Path) -> None:
        compact(str(result))
        assert numbers(read_manifest(result)) == [2]
        publish_to(result, [make_finished("/v/a.mp4", "a", mtime_ns=2)])
        assert numbers(read_manifest(result)) == [3]
        for name in ("tags/part-00007.parquet", "parts/part-00008.tags.parquet"):  # As after a crash.
            (result / name).write_text("half")
        publish_to(result, [make_finished("/v/e.mp4", "e")])
        assert numbers(read_manifest(result)) == [3, 9]
        assert (shown(result), verify(str(result)).problem) == ("abce", None)
        assert not list(result.rglob("part-00007*")) + list(result.rglob("part-00008*"))


class TestReadersOfAllFiles:
    def test_they_see_each_video_once_after_each_publication(self, result: Path) -> None:
        for text in ("xy", "z", "zz"):
            publish_change(result, text)
            assert shown(result) == "aab" + text
            assert pd.read_parquet(result / "videos")["video"].tolist() == ["/v/a.mp4", "/v/b.mp4", "/v/c.mp4"]
            counted = duckdb.sql(f"SELECT count(*), count(DISTINCT video) FROM '{result}/videos/*.parquet'")
            assert counted.fetchall() == [(3, 3)]
            assert verify(str(result)).problem is None

    def test_they_see_the_earlier_result_until_the_manifest_is_replaced(
        self, result: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        monkeypatch.setattr("jobs.result.publish.write_manifest", lambda *_: seen.append(shown(result)))
        publish_change(result, "xy")
        assert seen == ["aabc"]

    def test_on_a_disk_with_hard_links_both_names_are_one_file(self, result: Path) -> None:
        for table in ("tags", "videos"):
            names = result / f"parts/part-00001.{table}.parquet", result / table / "part-00001.parquet"
            assert names[0].samefile(names[1])


class TestALostLock:
    @pytest.mark.parametrize(
        ("checks", "published", "seen"),
        [(0, "aabc", "aabc"), (1, "aabc", "aabc"), (2, "aabc", "aabc"), (3, "aabx", "aabc"), (4, "aabx", "aabx")],
    )
    def test_a_folder_is_left_as_it_is_at_the_next_step(
        self, result: Path, checks: int, published: str, seen: str
    ) -> None:
        output = choose_output(result)
        ledger = commit_to(output, [make_finished("/v/c.mp4", "x", mtime_ns=2)])
        left = iter(range(checks))

        def check() -> None:
            if next(left, None) is None:
                raise OutputError("another job has taken over this output")

        def again(**options: Any) -> None:
            parts = committed_parts(output.run_folder)
            publish(output, IDENTITY, ledger.run_id, read_result(output), parts, **options)

        with pytest.raises(OutputError, match="another job has taken over"):
            again(check_lock=check)
        assert (listed(result, read_manifest(result)), shown(result)) == (published, seen)
        again()
        assert (listed(result, read_manifest(result)), shown(result)) == ("aabx", "aabx")

    @pytest.mark.parametrize("at", [1, 2, 4, 5])
    def test_a_job_that_is_paused_right_after_a_check_spoils_nothing_of_the_job_that_takes_over(
        self, result: Path, at: int
    ) -> None:
        output = choose_output(result)
        ledger = commit_to(output, [make_finished("/v/c.mp4", "x", mtime_ns=2)])
        tables = committed_parts(output.run_folder)
        checks = iter(range(1, 6))

        def check() -> None:
            check = next(checks)
            if check > at:
                raise OutputError("another job has taken over this output")
            if check == at:
                commit_to(output, [make_finished("/v/d.mp4", "d")])
                publish(output, IDENTITY, "other", read_result(output), committed_parts(output.run_folder))

        with suppress(OutputError):
            publish(output, IDENTITY, ledger.run_id, read_result(output), tables, check_lock=check)
        remove(output.run_folder)
        assert listed(result, read_manifest(result)) == "aabxd"
        assert set(shown(result)) >= set("abxd"), "no video is missing for readers of *.parquet"
        complete(output)
        assert (shown(result), verify(str(result)).problem) == ("aabxd", None)

    @pytest.mark.parametrize("checks", [0, 1])
    def test_of_two_files_the_next_one_stays(self, tmp_path: Path, checks: int) -> None:
        publish_to(tmp_path / "t.parquet", [make_finished("/v/a.mp4", "a")])
        output = choose_output(tmp_path / "t.parquet")
        commit_to(output, [make_finished("/v/a.mp4", "x", mtime_ns=2)])
        before = [file.read_bytes() for file in (tmp_path / "t.videos.parquet", tmp_path / "t.parquet")]
        left = iter(range(checks))

        def check() -> None:
            if next(left, None) is None:
                raise OutputError("another job has taken over this output")

        with pytest.raises(OutputError, match="another job has taken over"):
            publish(output, IDENTITY, "run", read_result(output), committed_parts(output.run_folder), check_lock=check)
        after = [file.read_bytes() for file in (tmp_path / "t.videos.parquet", tmp_path / "t.parquet")]
        assert [old == new for old, new in zip(before, after, strict=True)] == [checks == 0, True]
        assert not list(tmp_path.glob(".*"))


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two videos, of which Ray would make a segment for each byte."""
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverWithoutRay)
    (tmp_path / "videos").mkdir()
    for name in ("a", "b"):
        (tmp_path / "videos" / f"{name}.mp4").write_text(name)
    return tmp_path / "videos"


class TestARun:
    @pytest.fixture
    def config(self, archive: Path, tmp_path: Path) -> RunConfig:
        """A job whose result has a part that its manifest has dropped."""
        config = RunConfig((str(archive),), tmp_path / "result")
        run_job(make_plan(config))
        (archive / "b.mp4").write_text("bb")
        run_job(make_plan(config))
        assert read_manifest(tmp_path / "result")["previous"] == [0]
        return config

    def test_without_anything_to_do_it_removes_nothing(self, config: RunConfig) -> None:
        before = files(Path(config.out))
        run_job(make_plan(config))
        assert files(Path(config.out)) == before

    def test_it_finishes_a_compact_that_was_killed(self, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        result = Path(config.out)
        (Path(config.inputs[0]) / "c.mp4").write_text("c")
        run_job(make_plan(config))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("jobs.result.publish.show", stop)
            compact(config.out)
        assert "is not in the manifest, and readers of *.parquet see its rows" in (verify(str(result)).problem or "")
        run_job(make_plan(config))
        assert shown(result) == listed(result, read_manifest(result)) == "abbc"
        assert verify(str(result)).problem is None

    @pytest.mark.parametrize("folders", [["parts"], ["tags"], ["videos"], ["tags", "videos"]])
    def test_it_makes_files_with_one_lost_name_again(self, config: RunConfig, folders: list[str]) -> None:
        result = Path(config.out)
        for folder in folders:
            for file in (result / folder).iterdir():
                file.unlink()
        problem = verify(str(result)).problem or ""
        assert "is missing" in problem and "the next vtag run or compact makes it again" in problem
        run_job(make_plan(config))
        assert shown(result) == listed(result, read_manifest(result)) == "abb"
        assert verify(str(result)).problem is None


class TestAResultOfAnOlderVtag:
    @pytest.fixture
    def older(self, result: Path) -> Path:
        """The result as an older vtag wrote it: its manifest lists the files in ``tags/`` and ``videos/``."""
        for file in (result / "parts").iterdir():
            file.unlink()
        (result / "parts").rmdir()
        manifest = read_manifest(result)
        del manifest["previous"]
        for part in manifest["parts"]:
            for table in ("tags", "videos"):
                part[f"{table}_file"] = f"{table}/part-{part['number']:05d}.parquet"
        (result / "manifest.json").write_text(json.dumps(manifest))
        return result

    def test_it_is_complete(self, older: Path) -> None:
        assert verify(str(older)).problem is None

    def test_a_run_extends_it_and_its_files_get_the_names_of_today(self, older: Path) -> None:
        publish_to(older, [make_finished("/v/d.mp4", "d")])
        today = read_manifest(older)
        assert (listed(older, today), shown(older)) == ("aabcd", "aabcd")
        assert all(part["tags_file"].startswith("parts/") for part in today["parts"])
        publish_change(older, "x")
        assert (listed(older, today), listed(older, read_manifest(older))) == ("aabcd", "aabxd")
        assert (shown(older), verify(str(older)).problem) == ("aabxd", None)

    def test_it_can_be_compacted(self, older: Path) -> None:
        compact(str(older))
        assert (listed(older, read_manifest(older)), shown(older)) == ("aabc", "aabc")
        assert verify(str(older)).problem is None


class TestVerify:
    def test_a_damaged_file_is_found_under_either_name(self, result: Path) -> None:
        for name in ("parts/part-00001.tags.parquet", "tags/part-00001.parquet"):
            file = result / name
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(content[:-8] + b"xxxxPAR1")
            assert name in (verify(str(result)).problem or "")
            file.write_bytes(content)
            assert verify(str(result)).problem is None, "a copy is as good as a link"

    @pytest.mark.parametrize("name", ["parts/part-00001.{}.parquet", "{}/part-00001.parquet"])
    def test_a_file_with_other_rows_is_found_under_either_name(self, result: Path, name: str) -> None:
        for table in ("tags", "videos"):
            file = result / name.format(table)
            file.unlink()
            file.write_bytes((result / f"parts/part-00000.{table}.parquet").read_bytes())
        assert "do not match the manifest" in (verify(str(result)).problem or "")


def test_in_a_bucket_both_names_are_objects(bucket: Bucket) -> None:
    out = f"{bucket.address}/result"
    publish_to(out, [make_finished("/v/a.mp4", "a")])
    yesterday = json.loads(bucket.get("result/manifest.json"))
    publish_to(out, [make_finished("/v/a.mp4", "x", mtime_ns=2)])
    objects = [key for key in bucket.list() if not key.endswith("/")]
    assert objects == [
        "result/manifest.json",
        *[f"result/parts/part-0000{number}.{table}.parquet" for number in (0, 1) for table in ("tags", "videos")],
        "result/tags/part-00001.parquet",
        "result/videos/part-00001.parquet",
    ]
    (part,) = yesterday["parts"]
    assert locate(f"{out}/{part['tags_file']}").parquet().read()["label"].to_pylist() == ["a"]
    assert bucket.get("result/tags/part-00001.parquet") == bucket.get("result/parts/part-00001.tags.parquet")
    assert verify(out).problem is None


@given(nights=st.lists(st.integers(1, 30), min_size=1, max_size=200))
def test_the_number_of_parts_grows_with_the_logarithm_of_the_number_of_runs(nights: list[int]) -> None:
    parts: list[Part] = []
    for number, rows in enumerate(nights):
        stay, small = without_small(parts, rows, 10**9)
        parts = [*stay, Part(number, 0, rows + sum(part.rows for part in small))]
        assert len(parts) <= FEW_PARTS + 1 + math.log2(sum(nights[: number + 1]))
    assert sum(part.segments for part in parts) == sum(nights)


def test_small_parts_are_merged_as_they_come_and_no_row_is_lost(tmp_path: Path) -> None:
    for night in range(20):
        publish_to(tmp_path / "result", [make_finished(f"/v/{night % 7}-{night}.mp4", "ab")])
    result = read_result(choose_output(tmp_path / "result"))
    assert result is not None
    assert sorted(part.segments for part in result.parts) == [2, 2, 2, 34]
    assert verify(str(tmp_path / "result")).problem is None
    assert pq.read_table(tmp_path / "result/tags").num_rows == 40


@pytest.mark.parametrize(
    ("rows", "limit", "merged"),
    [(5, 1000, 0), (6, 1000, FEW_PARTS), (6, 30, 2), (0, 1000, 0)],
)
def test_parts_stay_that_are_twice_as_large_or_would_become_too_large(rows: int, limit: int, merged: int) -> None:
    parts = [Part(number, 1, 9) for number in range(FEW_PARTS)]
    assert without_small(parts, rows, limit) == (parts[merged:], parts[:merged])
    assert without_small(parts[1:], rows, limit) == (parts[1:], []), "few parts stay"


def test_nights_on_which_all_videos_fail_are_merged(tmp_path: Path) -> None:
    for night in range(12):
        publish_to(tmp_path / "result", [make_finished(f"/v/{night}.mp4", "")])
    result = read_result(choose_output(tmp_path / "result"))
    assert result is not None
    assert sorted(part.videos for part in result.parts) == [1, 1, 1, 9]
    assert verify(str(tmp_path / "result")).problem is None


def test_the_names_of_a_publication_are_looked_up_once_for_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for night in range(5):
        publish_to(tmp_path / "result", [make_finished(f"/v/{night}.mp4", "ab")])
    looked_up: list[int] = []

    def count(names: Sequence[pa.Array]) -> np.ndarray:
        looked_up.append(sum(map(len, names)))
        return repeated_names(names)

    monkeypatch.setattr("jobs.result.publish.repeated_names", count)
    publish_to(tmp_path / "result", [make_finished("/v/1.mp4", "x")], drop=["/v/3.mp4", "/v/2.mp4"])
    assert looked_up == [5 + 1 + 2]
    assert numbers(read_manifest(tmp_path / "result")) == [0, 4, 5]
    assert shown(tmp_path / "result") == "abxab"
