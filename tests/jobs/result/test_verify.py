import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.result.output import choose_output
from jobs.result.published import read_result
from jobs.result.verify import Verdict, verify
from jobs.tagging.finished.collector import FinishedVideo
from tagger.errors import OutputError
from tests.jobs.result.finished import commit_to, make_finished, publish_to

VIDEOS = [make_finished("/v/a.mp4", "abc"), make_finished("/v/b.mp4", ""), make_finished("/v/c.mp4", "ab")]


def check(out: Path) -> Verdict:
    return verify(str(out))


@pytest.mark.parametrize("out", ["t.parquet", "result"])
class TestAGoodResult:
    def test_it_has_no_problem(self, tmp_path: Path, out: str) -> None:
        publish_to(tmp_path / out, VIDEOS)
        publish_to(tmp_path / out, [make_finished("/v/b1.mp4", "x")])
        found = check(tmp_path / out)
        assert (found.problem, found.videos, found.segments, found.waiting) == (None, 4, 6, 0)
        assert found.identity.model == "actions38"

    def test_unpublished_videos_of_an_interrupted_run_are_counted(self, tmp_path: Path, out: str) -> None:
        publish_to(tmp_path / out, VIDEOS)
        commit_to(choose_output(tmp_path / out), [make_finished("/v/d.mp4")])
        assert check(tmp_path / out).waiting == 1

    def test_a_missing_result_is_an_error(self, tmp_path: Path, out: str) -> None:
        with pytest.raises(OutputError, match="there is no result"):
            check(tmp_path / out)
        commit_to(choose_output(tmp_path / out), VIDEOS)
        with pytest.raises(OutputError, match="interrupted run"):
            check(tmp_path / out)
        with pytest.raises(OutputError, match="there is no result"):
            check(tmp_path / "no folder" / out)

    def test_a_result_that_is_replaced_during_the_check_is_read_again(
        self, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish_to(tmp_path / out, VIDEOS)
        outdated = read_result(choose_output(tmp_path / out))
        publish_to(tmp_path / out, [make_finished("/v/a.mp4", "x", mtime_ns=2)])
        readings = iter([outdated])
        monkeypatch.setattr(
            "jobs.result.verify.read_result", lambda output: next(readings, None) or read_result(output)
        )
        found = check(tmp_path / out)
        assert (found.problem, found.segments) == (None, 3)


def test_an_interrupted_publication_is_reported(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", VIDEOS)
    old = (tmp_path / "t.parquet").read_bytes()
    publish_to(tmp_path / "t.parquet", [make_finished("/v/a.mp4", "x", mtime_ns=2)])
    (tmp_path / "t.parquet").write_bytes(old)
    commit_to(choose_output(tmp_path / "t.parquet"))
    assert "middle of publishing" in (check(tmp_path / "t.parquet").problem or "")


def rewrite(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def without(row: int):  # type: ignore[no-untyped-def]
    return lambda table: pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def twice(row: int):  # type: ignore[no-untyped-def]
    return lambda table: pa.concat_tables([table.slice(0, row + 1), table.slice(row)])


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("t.parquet", without(1), "segments of /v/a.mp4"),
        ("t.parquet", without(2), "segments of /v/a.mp4"),
        ("t.parquet", without(4), "segments of /v/c.mp4"),
        ("t.parquet", twice(0), "segments of /v/a.mp4"),
        ("t.parquet", twice(4), "counts, from /v/c.mp4 on"),
        ("t.parquet", lambda table: table.take(pa.array([0, 2, 1, 3, 4])), "segments of /v/a.mp4"),
        ("t.parquet", lambda table: table.take(pa.array([3, 4, 0, 1, 2])), "segments of /v/a.mp4"),
        (
            "t.parquet",
            lambda table: table.set_column(2, table.schema.field(2), pc.subtract(table["start_s"], 1.0)),
            "segments of /v/a.mp4",
        ),
        ("t.videos.parquet", without(0), "segments of /v/c.mp4"),
        ("t.videos.parquet", without(2), "counts, from /v/c.mp4 on"),
        ("t.videos.parquet", twice(1), "has a video twice"),
        ("t.videos.parquet", lambda table: table.take(pa.array([2, 0, 1])), "not sorted"),
    ],
)
def test_missing_extra_and_misplaced_rows_are_found(tmp_path: Path, file: str, change, says: str) -> None:  # type: ignore[no-untyped-def]
    publish_to(tmp_path / "t.parquet", VIDEOS)
    rewrite(tmp_path / file, change)
    assert says in (check(tmp_path / "t.parquet").problem or "")


@pytest.mark.parametrize("column", ["start_s", "confidence"])
def test_a_corrupt_byte_in_a_file_is_found(tmp_path: Path, column: str) -> None:
    publish_to(tmp_path / "t.parquet", [make_finished(f"/v/{i}.mp4", "abc") for i in range(50)])
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    metadata = pq.read_metadata(tmp_path / "t.parquet")
    starts = metadata.row_group(0).column(metadata.schema.names.index(column))
    pages = starts.dictionary_page_offset or starts.data_page_offset
    data[pages + starts.total_compressed_size - 3] ^= 4
    (tmp_path / "t.parquet").write_bytes(data)
    assert "cannot be read" in (check(tmp_path / "t.parquet").problem or "")


class TestAFolder:
    @pytest.fixture
    def result(self, tmp_path: Path) -> Path:
        for video in VIDEOS:
            publish_to(tmp_path / "result", [video])
        return tmp_path / "result"

    def test_a_video_in_two_parts_is_found(self, result: Path) -> None:
        for table in ("tags", "videos"):
            os.link(result / table / "part-00000.parquet", result / table / "part-00003.parquet")
        manifest = json.loads((result / "manifest.json").read_text())
        manifest["parts"].append(manifest["parts"][0] | {"number": 3})
        (result / "manifest.json").write_text(json.dumps(manifest))
        assert check(result).problem == "/v/a.mp4 is in more than one part"

    def test_a_missing_or_exchanged_part_is_found(self, result: Path) -> None:
        for table in ("tags", "videos"):
            (result / table / "part-00000.parquet").replace(result / table / "part-00001.parquet")
        assert "part-00000.parquet" in (check(result).problem or "")
        for table in ("tags", "videos"):
            os.link(result / table / "part-00001.parquet", result / table / "part-00000.parquet")
        assert "do not match the manifest" in (check(result).problem or "")

    def test_a_part_that_is_not_listed_is_found(self, result: Path) -> None:
        os.link(result / "tags/part-00000.parquet", result / "tags/part-00007.parquet")
        assert "part-00007.parquet is not in the manifest" in (check(result).problem or "")


def with_gap(labels: str, gaps: tuple[tuple[float, float], ...]) -> FinishedVideo:
    """A video whose second window is left out."""
    video = make_finished("/v/a.mp4", labels)
    kept = pc.not_equal(video.segments["window"], 1)
    end = replace(video.end, status="partial", error_kind="damaged", error="damaged", gaps=gaps)
    return replace(video, segments=video.segments.filter(kept), end=end)


def test_only_a_video_with_gaps_may_lack_segments(tmp_path: Path) -> None:
    publish_to(tmp_path / "gap.parquet", [with_gap("abc", ((2.5, 3.0),))])
    assert check(tmp_path / "gap.parquet").problem is None
    row = pq.read_table(tmp_path / "gap.videos.parquet").to_pylist()[0]
    assert (row["segments"], row["gaps"], row["read_s"]) == (2, [{"start_s": 2.5, "end_s": 3.0}], 3.5)
    publish_to(tmp_path / "none.parquet", [with_gap("abc", ())])
    assert "are missing or wrong" in str(check(tmp_path / "none.parquet").problem)
