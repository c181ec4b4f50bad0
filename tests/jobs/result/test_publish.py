import json
import os
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tagger
from jobs.archive.video import Failure
from jobs.result.ledger import committed_parts
from jobs.result.lock import locked
from jobs.result.output import choose_output
from jobs.result.publish import LabelCount, publish
from jobs.result.published import read_result
from jobs.result.rewrite.compact import compact
from jobs.result.verify import verify
from tagger import Sampling
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA
from tests.jobs.result.finished import IDENTITY, commit_to, make_finished, publish_to

COMMITS = (
    [make_finished("/v/c.mp4", "abb"), make_finished("/v/a.mp4", "b")],
    [make_finished("/v/d.mp4", "")],
    [make_finished("/v/b.mp4", "ca")],
)


def labels_in(tags: Path) -> list[tuple[str, str]]:
    table = pq.read_table(tags)
    return list(zip(table["video"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_tags_are_sorted_by_video_and_start(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", *COMMITS)
    rows = pq.read_table(tmp_path / "t.parquet").select(["video", "segment", "start_s", "label"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("/v/a.mp4", 0, 0.0, "b"),
        ("/v/b.mp4", 0, 0.0, "c"),
        ("/v/b.mp4", 1, 2.0, "a"),
        ("/v/c.mp4", 0, 0.0, "a"),
        ("/v/c.mp4", 1, 2.0, "b"),
        ("/v/c.mp4", 2, 4.0, "b"),
    ]


def test_every_video_has_one_row_sorted_with_its_facts_or_its_failure(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", *COMMITS)
    videos = pd.read_parquet(tmp_path / "t.videos.parquet")
    assert videos["video"].tolist() == ["/v/a.mp4", "/v/b.mp4", "/v/c.mp4", "/v/d.mp4"]
    assert videos["segments"].tolist() == [1, 2, 3, 0]
    assert videos["status"].tolist() == ["ok", "ok", "ok", "failed"]
    good, bad = videos.iloc[0], videos.iloc[3]
    assert (good["codec"], good["width"], good["decoder"], good["size"]) == ("h264", 96, "decord", 1000)
    assert good["mtime"] == pd.Timestamp(1_700_000_000_123_456_000, tz="UTC")
    assert good["mtime_ns"] == 1_700_000_000_123_456_789
    assert good["fingerprint"] == "content at 1700000000123456789"
    assert (bad["error_kind"], bad["error"]) == ("empty", "/v/d.mp4 is empty (0 bytes)")
    assert pd.isna(bad["codec"])


def test_duckdb_reads_both_files(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", *COMMITS)
    query = f"SELECT label, count(*) FROM '{tmp_path}/t.parquet' GROUP BY 1 ORDER BY 2 DESC, 1"
    assert duckdb.sql(query).fetchall() == [("b", 3), ("a", 2), ("c", 1)]
    assert duckdb.sql(f"SELECT year(min(mtime)) FROM '{tmp_path}/t.videos.parquet'").fetchall() == [(2023,)]


def test_both_files_have_the_schema_and_the_metadata_of_their_run(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", *COMMITS)
    runs = set()
    for name, schema in (("t.parquet", TAGS_SCHEMA), ("t.videos.parquet", VIDEOS_SCHEMA)):
        found = pq.read_schema(tmp_path / name)
        assert found.equals(schema)
        metadata = {key.decode(): value.decode() for key, value in found.metadata.items() if key.startswith(b"vtag.")}
        assert metadata.pop("vtag.sampling") == json.dumps(Sampling(hop_s=1.0).to_json(), sort_keys=True)
        runs.add(metadata.pop("vtag.run"))
        assert metadata == {
            "vtag.version": tagger.__version__,
            "vtag.model": "actions38",
            "vtag.model_hash": "abc123",
            "vtag.top_k": "2",
        }
    assert len(runs) == 1


def test_the_rows_of_a_result_are_counted(tmp_path: Path) -> None:
    found = publish_to(tmp_path / "t.parquet", *COMMITS)
    assert (found.videos, found.segments, found.video_s) == (4, 6, 12.0)
    assert found.statuses == {"ok": 3, "failed": 1}
    assert found.failures == [Failure("/v/d.mp4", "failed", "empty", "/v/d.mp4 is empty (0 bytes)")]
    assert found.top_labels == (LabelCount("b", 3, 6.0), LabelCount("a", 2, 4.0), LabelCount("c", 1, 2.0))
    assert found.background == LabelCount("background", 0, 0.0)


def test_background_is_counted_also_when_ten_labels_are_more_frequent(tmp_path: Path) -> None:
    labels = [*("abcdefghij" * 2), "background"]
    found = publish_to(tmp_path / "t.parquet", [make_finished("/v/a.mp4", labels)])
    assert [top.label for top in found.top_labels] == list("abcdefghij")
    assert found.background == LabelCount("background", 1, 2.0)


@pytest.mark.parametrize("out", ["t.parquet", "result"])
def test_a_job_without_a_single_segment_still_gives_both_tables(tmp_path: Path, out: str) -> None:
    publish_to(tmp_path / out, [make_finished("/v/a.mp4", "")])
    output = choose_output(tmp_path / out)
    assert pq.read_table(output.tags.path).num_rows == 0
    assert pq.read_table(output.videos.path).num_rows == 1


def without_scores(tags: Path) -> None:
    """Rewrites a file as an older vtag without ``ood_score`` wrote it."""
    table = pq.read_table(tags)
    pq.write_table(table.drop_columns(["ood_score"]), tags, row_group_size=2)


def test_a_score_is_published_beside_the_confidence(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_finished("/v/a.mp4", "a", ood_score=0.25), make_finished("/v/b.mp4", "b")])
    tags = pq.read_table(tmp_path / "t.parquet")
    assert tags["ood_score"].to_pylist() == [0.25, None]
    assert tags.schema.field("ood_score").type == pa.float32()


@pytest.mark.parametrize("out", ["t.parquet", "result"])
class TestAResultOfAnOlderVtagWithoutScores:
    def test_videos_are_added_to_it_and_its_rows_have_no_score(self, tmp_path: Path, out: str) -> None:
        publish_to(tmp_path / out, *COMMITS)
        output = choose_output(tmp_path / out)
        tags = Path(output.tags.path)
        without_scores(tags if tags.is_file() else tags / "part-00000.parquet")
        publish_to(tmp_path / out, [make_finished("/v/b.mp4", "z", ood_score=0.5)])
        assert verify(str(tmp_path / out)).problem is None
        found = pq.read_table(tags, columns=["video", "label", "ood_score"]).to_pylist()
        assert [tuple(row.values()) for row in found] == [
            ("/v/a.mp4", "b", None),
            ("/v/b.mp4", "z", 0.5),
            *[("/v/c.mp4", label, None) for label in "abb"],
        ]

    def test_an_interrupted_run_of_it_is_finished(self, tmp_path: Path, out: str) -> None:
        output = choose_output(tmp_path / out)
        commit_to(output, *COMMITS)
        without_scores(Path(committed_parts(output.run_folder)[0].tags.path))
        published = publish(output, IDENTITY, "run", None, committed_parts(output.run_folder))
        assert published.segments == 6
        assert pq.read_table(output.tags.path)["ood_score"].null_count == 6


def test_a_folder_of_an_older_vtag_has_scores_in_every_part_once_it_is_compacted(tmp_path: Path) -> None:
    publish_to(tmp_path / "result", *COMMITS)
    without_scores(tmp_path / "result" / "tags" / "part-00000.parquet")
    publish_to(tmp_path / "result", [make_finished("/v/e.mp4", "e")])
    assert verify(str(tmp_path / "result")).problem is None
    compact(str(tmp_path / "result"))
    for part in (tmp_path / "result" / "tags").iterdir():
        assert pq.read_schema(part).equals(TAGS_SCHEMA)


@pytest.mark.parametrize("out", ["t.parquet", "result"])
def test_a_result_of_an_older_vtag_without_starts_of_streams_grows_and_is_compacted(tmp_path: Path, out: str) -> None:
    publish_to(tmp_path / out, *COMMITS)
    output = choose_output(tmp_path / out)
    videos = Path(output.videos.path)
    older = videos if videos.is_file() else videos / "part-00000.parquet"
    pq.write_table(pq.read_table(older).drop_columns(["stream_start_s"]), older)
    assert verify(str(tmp_path / out)).problem is None
    publish_to(tmp_path / out, [make_finished("/v/b.mp4", "z")])
    if output.is_folder:
        compact(str(tmp_path / out))
    assert verify(str(tmp_path / out)).problem is None
    rows = pq.read_table(videos, columns=["video", "stream_start_s"]).to_pylist()
    assert {row["video"]: row["stream_start_s"] for row in rows} == {
        **dict.fromkeys(["/v/a.mp4", "/v/c.mp4", "/v/d.mp4"]),
        "/v/b.mp4": 0.0,
    }


def test_a_file_that_lacks_another_column_is_no_result(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", *COMMITS)
    table = pq.read_table(tmp_path / "t.parquet")
    pq.write_table(table.drop_columns(["confidence"]), tmp_path / "t.parquet")
    with pytest.raises(OutputError, match="no result of this version"):
        read_result(choose_output(tmp_path / "t.parquet"))


@pytest.mark.parametrize("out", ["t.parquet", "result"])
class TestAResultGrows:
    def test_new_videos_are_added_and_changed_ones_replaced(self, tmp_path: Path, out: str) -> None:
        publish_to(tmp_path / out, *COMMITS)
        found = publish_to(
            tmp_path / out, [make_finished("/v/a.mp4", "zz", mtime_ns=2), make_finished("/v/0.mp4", "y")]
        )
        output = choose_output(tmp_path / out)
        assert sorted(labels_in(Path(output.tags.path))) == [
            ("/v/0.mp4", "y"),
            *[("/v/a.mp4", "z")] * 2,
            *[("/v/b.mp4", "a"), ("/v/b.mp4", "c")],
            *[("/v/c.mp4", "a"), ("/v/c.mp4", "b"), ("/v/c.mp4", "b")],
        ]
        assert pq.read_table(output.videos.path)["video"].to_pylist().count("/v/a.mp4") == 1
        assert (found.videos, found.segments) == (5, 8)
        assert found.failures == [], "/v/d.mp4 failed before"

    def test_only_pruning_removes_videos(self, tmp_path: Path, out: str) -> None:
        publish_to(tmp_path / out, *COMMITS)
        publish_to(tmp_path / out, [make_finished("/v/e.mp4", "e")], drop=["/v/a.mp4", "/v/c.mp4", "/v/d.mp4"])
        output = choose_output(tmp_path / out)
        assert sorted(labels_in(Path(output.tags.path))) == [("/v/b.mp4", "a"), ("/v/b.mp4", "c"), ("/v/e.mp4", "e")]
        assert sorted(pq.read_table(output.videos.path)["video"].to_pylist()) == ["/v/b.mp4", "/v/e.mp4"]

    def test_repeating_an_interrupted_publication_gives_the_same(self, tmp_path: Path, out: str) -> None:
        publish_to(tmp_path / out, *COMMITS)
        output = choose_output(tmp_path / out)
        ledger = commit_to(output, [make_finished("/v/a.mp4", "zz", mtime_ns=2)])
        for _ in range(3):
            # As after a crash between the publication and the removal of the run folder.
            publish(output, IDENTITY, ledger.run_id, read_result(output), committed_parts(output.run_folder))
            assert sorted(labels_in(Path(output.tags.path)))[:2] == [("/v/a.mp4", "z")] * 2
            assert pq.read_table(output.tags.path).num_rows == 7


def test_a_result_with_new_videos_but_old_tags_is_repaired(tmp_path: Path) -> None:
    # As after a crash between the replacement of the videos and that of the tags.
    publish_to(tmp_path / "t.parquet", *COMMITS)
    old = (tmp_path / "t.parquet").read_bytes()
    output = choose_output(tmp_path / "t.parquet")
    ledger = commit_to(output, [make_finished("/v/a.mp4", "zz", mtime_ns=2), make_finished("/v/z.mp4", "y")])
    publish(output, IDENTITY, ledger.run_id, read_result(output), committed_parts(output.run_folder))
    new = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(old)
    publish(output, IDENTITY, ledger.run_id, read_result(output), committed_parts(output.run_folder))
    assert (tmp_path / "t.parquet").read_bytes() == new


def test_an_interrupted_publication_that_pruned_is_repaired_also_without_pruning(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", *COMMITS)
    old = (tmp_path / "t.parquet").read_bytes()
    output = choose_output(tmp_path / "t.parquet")
    ledger = commit_to(output)
    drop = pa.array(["/v/a.mp4", "/v/c.mp4", "/v/d.mp4"])
    publish(output, IDENTITY, ledger.run_id, read_result(output), [], drop=drop)
    (tmp_path / "t.parquet").write_bytes(old)
    publish(output, IDENTITY, ledger.run_id, read_result(output), [])
    assert sorted(labels_in(tmp_path / "t.parquet")) == [("/v/b.mp4", "a"), ("/v/b.mp4", "c")]


class TestAFolder:
    def test_its_part_files_read_as_one_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("jobs.result.publish.ROWS_PER_FILE", 4)
        monkeypatch.setattr("jobs.result.merge.RANGE_ROWS", 4)
        commits = [*COMMITS, [make_finished("/v/x.mp4", "abc")]]
        publish_to(tmp_path / "result", *commits)
        names = sorted(str(path.relative_to(tmp_path / "result")) for path in (tmp_path / "result").rglob("*.*"))
        assert names == [
            "manifest.json",
            "parts/part-00000.tags.parquet",
            "parts/part-00000.videos.parquet",
            "parts/part-00001.tags.parquet",
            "parts/part-00001.videos.parquet",
            "tags/part-00000.parquet",
            "tags/part-00001.parquet",
            "videos/part-00000.parquet",
            "videos/part-00001.parquet",
        ]
        publish_to(tmp_path / "t.parquet", *commits)
        assert pq.read_table(tmp_path / "result/tags").equals(pq.read_table(tmp_path / "t.parquet"))

    def test_the_manifest_lists_its_parts(self, tmp_path: Path) -> None:
        publish_to(tmp_path / "result", *COMMITS)
        manifest = json.loads((tmp_path / "result/manifest.json").read_text())
        assert manifest["model"] == "actions38"
        assert manifest["parts"] == [
            {
                "number": 0,
                "tags_file": "parts/part-00000.tags.parquet",
                "videos_file": "parts/part-00000.videos.parquet",
                "videos": 4,
                "segments": 6,
                "totals": {
                    "videos": 4,
                    "statuses": {"failed": 1, "ok": 3},
                    "segments": 6,
                    "video_s": 12.0,
                    "labels": {"a": [2, 4.0], "b": [3, 6.0], "c": [1, 2.0]},
                },
            }
        ]
        assert manifest["previous"] == []

    def test_a_run_adds_a_part_and_leaves_the_others_as_they_are(self, tmp_path: Path) -> None:
        publish_to(tmp_path / "result", *COMMITS)
        first = tmp_path / "result/tags/part-00000.parquet"
        before = first.stat().st_ino
        publish_to(tmp_path / "result", [make_finished("/v/b1.mp4", "new")])
        assert first.stat().st_ino == before
        assert labels_in(tmp_path / "result/tags/part-00001.parquet") == [("/v/b1.mp4", letter) for letter in "new"]

    def test_a_part_with_a_changed_video_is_written_again(self, tmp_path: Path) -> None:
        publish_to(tmp_path / "result", *COMMITS)
        publish_to(tmp_path / "result", [make_finished("/v/b.mp4", "x", mtime_ns=2)])
        assert [path.name for path in (tmp_path / "result/tags").iterdir()] == ["part-00001.parquet"]

    def test_parts_left_by_a_crash_are_overwritten_or_removed(self, tmp_path: Path) -> None:
        publish_to(tmp_path / "result", *COMMITS)
        for number in (1, 2):
            (tmp_path / f"result/tags/part-0000{number}.parquet").write_text("half")
        publish_to(tmp_path / "result", [make_finished("/v/e.mp4", "e")])
        assert len(pq.read_table(tmp_path / "result/tags")) == 7

    def test_compacting_merges_the_parts(self, tmp_path: Path) -> None:
        for number, commit in enumerate(COMMITS):
            publish_to(tmp_path / "result", commit)
            assert len(list((tmp_path / "result/tags").iterdir())) == number + 1
        rows = sorted(labels_in(tmp_path / "result/tags"), key=lambda row: row[0])
        compact(str(tmp_path / "result"))
        (part,) = (tmp_path / "result/tags").iterdir()
        assert labels_in(part) == rows
        compact(str(tmp_path / "result"), str(tmp_path / "t.parquet"))
        assert labels_in(tmp_path / "t.parquet") == rows
        assert sorted(path.name for path in tmp_path.iterdir()) == ["result", "t.parquet", "t.videos.parquet"]

    def test_compacting_something_else_is_refused(self, tmp_path: Path) -> None:
        publish_to(tmp_path / "t.parquet", *COMMITS)
        with pytest.raises(OutputError, match="nothing to merge"):
            compact(str(tmp_path / "t.parquet"))
        with pytest.raises(OutputError, match="nothing to merge"):
            compact(str(tmp_path / "none"))
        publish_to(tmp_path / "result", *COMMITS)
        for out in ("t.parquet", "result"):
            with pytest.raises(OutputError, match="exists"):
                compact(str(tmp_path / "result"), str(tmp_path / out))
        commit_to(choose_output(tmp_path / "u.parquet"))
        with pytest.raises(OutputError, match="interrupted run"):
            compact(str(tmp_path / "result"), str(tmp_path / "u.parquet"))
        with (
            locked(choose_output(tmp_path / "w.parquet").run_folder),
            pytest.raises(OutputError, match="being written"),
        ):
            compact(str(tmp_path / "result"), str(tmp_path / "w.parquet"))


@pytest.mark.parametrize("failing", ["t.parquet", "t.videos.parquet"])
def test_a_result_that_cannot_be_written_leaves_the_old_one_and_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    publish_to(tmp_path / "t.parquet", *COMMITS)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    output = choose_output(tmp_path / "t.parquet")
    ledger = commit_to(output, [make_finished("/v/a.mp4", "zz", mtime_ns=2)])
    write = pq.ParquetWriter.write_table

    def fill_up(self: pq.ParquetWriter, table: pa.Table, *args: object, **options: object) -> None:
        if len(table.schema) == (len(TAGS_SCHEMA) if failing == "t.parquet" else len(VIDEOS_SCHEMA)):
            raise OSError(28, "No space left on device")
        write(self, table, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", fill_up)
        with pytest.raises(OutputError, match=r"no space left on device; .* run the same command again"):
            publish(output, IDENTITY, ledger.run_id, read_result(output), committed_parts(output.run_folder))
    assert {path: path.read_bytes() for path in tmp_path.glob("*.parquet")} == before
    assert not list(tmp_path.glob(".*"))
    publish(output, IDENTITY, ledger.run_id, read_result(output), committed_parts(output.run_folder))
    assert labels_in(tmp_path / "t.parquet")[:2] == [("/v/a.mp4", "z")] * 2


class TestChooseOutput:
    def test_a_file_has_its_videos_and_its_run_folder_beside_it(self, tmp_path: Path) -> None:
        output = choose_output(tmp_path / "t.parquet")
        assert (output.tags.name, output.videos.name, output.run_folder.name) == (
            "t.parquet",
            "t.videos.parquet",
            "t.parquet.run",
        )

    def test_a_folder_with_other_files_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "photo.jpg").touch()
        with pytest.raises(OutputError, match=r"other things \(photo.jpg\)"):
            choose_output(tmp_path)

    def test_hidden_files_of_file_managers_and_network_disks_are_ignored(self, tmp_path: Path) -> None:
        publish_to(tmp_path / "result", *COMMITS)
        for name in (".DS_Store", ".nfs0123", ".manifest.json.tmp"):
            (tmp_path / "result" / name).touch()
        assert read_result(choose_output(tmp_path / "result")) is not None

    def test_an_empty_folder_may_be_filled(self, tmp_path: Path) -> None:
        assert choose_output(tmp_path).is_folder

    @pytest.mark.parametrize(
        ("out", "says"),
        [
            ("gone/t.parquet", "does not exist"),
            ("plain", "existing file"),
            ("t.videos.parquet", r"belongs to: t\.parquet"),
        ],
    )
    def test_an_unusable_output_is_refused_before_any_work(self, tmp_path: Path, out: str, says: str) -> None:
        (tmp_path / "plain").touch()
        with pytest.raises(OutputError, match=says):
            choose_output(tmp_path / out)

    def test_a_name_that_is_too_long_for_the_disk_is_refused_and_the_longest_other_name_works(
        self, tmp_path: Path
    ) -> None:
        limit = os.pathconf(tmp_path, "PC_NAME_MAX")
        # The longest file is the hidden one that becomes NAME.videos.parquet.
        longest = limit - len(".") - len(".videos.parquet") - len(".tmp")
        with pytest.raises(OutputError, match="the name is 1 bytes too long for this disk"):
            choose_output(tmp_path / ("x" * (longest + 1) + ".parquet"))
        published = publish_to(tmp_path / ("x" * longest + ".parquet"), *COMMITS)
        assert published.videos == len([video for commit in COMMITS for video in commit])
        with pytest.raises(OutputError, match="too long for this disk"):
            choose_output(tmp_path / ("ü" * (limit // 2 - 1)))

    @pytest.mark.parametrize(
        ("name", "says"),
        [("t.videos.parquet", "is a folder, and vtag writes a file"), ("t.parquet.run", "is a file, and vtag makes")],
    )
    def test_something_in_the_way_of_a_file_is_refused_before_any_work(
        self, tmp_path: Path, name: str, says: str
    ) -> None:
        if name.endswith(".run"):
            (tmp_path / name).touch()
        else:
            (tmp_path / name).mkdir()
        with pytest.raises(OutputError, match=says):
            choose_output(tmp_path / "t.parquet")

    @pytest.mark.parametrize("content", [b"", b"PAR1 no more", None])
    def test_a_file_that_is_no_result_is_not_added_to(self, tmp_path: Path, content: bytes | None) -> None:
        for name in ("t.parquet", "t.videos.parquet"):
            if content is None:
                pq.write_table(pa.table({"a": [1]}), tmp_path / name)
            else:
                (tmp_path / name).write_bytes(content)
        with pytest.raises(OutputError, match=r"t\.parquet (is no result|cannot be read)"):
            read_result(choose_output(tmp_path / "t.parquet"))

    def test_a_file_without_its_matching_table_is_not_added_to(self, tmp_path: Path) -> None:
        publish_to(tmp_path / "t.parquet", *COMMITS)
        publish_to(tmp_path / "u.parquet", *COMMITS)
        (tmp_path / "u.videos.parquet").replace(tmp_path / "t.videos.parquet")
        with pytest.raises(OutputError, match="come from different runs"):
            read_result(choose_output(tmp_path / "t.parquet"))
        with pytest.raises(OutputError, match="is missing"):
            read_result(choose_output(tmp_path / "u.parquet"))
        (tmp_path / "result/tags").mkdir(parents=True)
        (tmp_path / "result/tags/part-00000.parquet").touch()
        with pytest.raises(OutputError, match=r"manifest\.json.* is missing"):
            read_result(choose_output(tmp_path / "result"))
