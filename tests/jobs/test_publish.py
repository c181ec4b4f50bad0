import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tagger
from jobs.job import Failure, LabelCount
from jobs.ledger import Ledger, RunIdentity
from jobs.output import choose_output
from jobs.publish import Published, publish
from jobs.results import FinishedVideo
from tagger import Sampling
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA
from tests.jobs.finished import make_finished

IDENTITY = RunIdentity("ucf20", "abc123", Sampling(hop_s=1.0).to_json(), 2)
COMMITS = (
    [make_finished("/v/c.mp4", "abb"), make_finished("/v/a.mp4", "b")],
    [make_finished("/v/d.mp4", "")],
    [make_finished("/v/b.mp4", "ca")],
)


def publish_to(out: Path, commits: tuple[list[FinishedVideo], ...] = COMMITS) -> Published:
    output = choose_output(out, overwrite=True)
    ledger = Ledger.create(output.run, IDENTITY, {})
    for videos in commits:
        ledger.commit(videos)
    return publish(ledger, [done.video for videos in commits for done in videos], IDENTITY, output)


def test_tags_are_sorted_by_video_and_start(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet")
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
    publish_to(tmp_path / "t.parquet")
    videos = pd.read_parquet(tmp_path / "t.videos.parquet")
    assert videos["video"].tolist() == ["/v/a.mp4", "/v/b.mp4", "/v/c.mp4", "/v/d.mp4"]
    assert videos["segments"].tolist() == [1, 2, 3, 0]
    assert videos["status"].tolist() == ["ok", "ok", "ok", "failed"]
    good, bad = videos.iloc[0], videos.iloc[3]
    assert (good["codec"], good["width"], good["decoder"], good["size"]) == ("h264", 96, "decord", 1000)
    assert good["mtime"] == pd.Timestamp(1_700_000_000_123_456_000, tz="UTC")
    assert (bad["error_kind"], bad["error"]) == ("empty", "/v/d.mp4 is empty (0 bytes)")
    assert pd.isna(bad["codec"])


def test_both_files_have_the_schema_and_say_what_made_them(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet")
    for name, schema in (("t.parquet", TAGS_SCHEMA), ("t.videos.parquet", VIDEOS_SCHEMA)):
        found = pq.read_schema(tmp_path / name)
        assert found.equals(schema)
        metadata = {key.decode(): value.decode() for key, value in found.metadata.items() if key.startswith(b"vtag.")}
        assert metadata.pop("vtag.sampling") == json.dumps(Sampling(hop_s=1.0).to_json(), sort_keys=True)
        assert metadata == {
            "vtag.version": tagger.__version__,
            "vtag.model": "ucf20",
            "vtag.model_hash": "abc123",
            "vtag.top_k": "2",
        }


def test_what_a_result_holds_is_counted(tmp_path: Path) -> None:
    assert publish_to(tmp_path / "t.parquet") == Published(
        statuses={"ok": 3, "failed": 1},
        segments=6,
        video_s=12.0,
        failures=(Failure("/v/d.mp4", "failed", "empty", "/v/d.mp4 is empty (0 bytes)"),),
        top_labels=(LabelCount("b", 3, 6.0), LabelCount("a", 2, 4.0), LabelCount("c", 1, 2.0)),
    )


def test_a_job_without_a_single_segment_still_gives_both_tables(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", ([make_finished("/v/a.mp4", "")],))
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 0
    assert pq.read_table(tmp_path / "t.videos.parquet").num_rows == 1


def test_a_video_read_twice_appears_once_as_it_was_read_last(tmp_path: Path) -> None:
    old, new = make_finished("/v/a.mp4", "aaa", mtime_ns=1), make_finished("/v/a.mp4", "b", mtime_ns=2)
    output = choose_output(tmp_path / "t.parquet")
    ledger = Ledger.create(output.run, IDENTITY, {})
    ledger.commit([old])
    ledger.commit([new])
    publish(ledger, [new.video], IDENTITY, output)
    assert pq.read_table(tmp_path / "t.parquet")["label"].to_pylist() == ["b"]
    assert pq.read_table(tmp_path / "t.videos.parquet").num_rows == 1


def test_a_folder_gets_part_files_that_read_as_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.publish.ROWS_PER_FILE", 4)
    publish_to(tmp_path / "result")
    assert sorted(str(path.relative_to(tmp_path / "result")) for path in (tmp_path / "result").rglob("*.parquet")) == [
        "tags/part-00000.parquet",
        "tags/part-00001.parquet",
        "videos/part-00000.parquet",
    ]
    publish_to(tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "result/tags").equals(pq.read_table(tmp_path / "t.parquet"))


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.publish.ROWS_PER_FILE", 1)
    publish_to(tmp_path / "result")
    publish_to(tmp_path / "result", ([make_finished("/v/z.mp4", "z")],))
    assert pq.read_table(tmp_path / "result/tags")["video"].to_pylist() == ["/v/z.mp4"]


@pytest.mark.parametrize("failing", ["t.parquet", "t.videos.parquet"])
def test_a_result_that_cannot_be_written_leaves_the_old_one_and_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    (tmp_path / "t.parquet").write_bytes(b"old")
    (tmp_path / "t.videos.parquet").write_bytes(b"old videos")
    write = pq.write_table

    def fill_up(table: pa.Table, where: Path, **options: str) -> None:
        if failing in Path(where).name:
            raise OSError(28, "No space left on device")
        write(table, where, **options)

    output = choose_output(tmp_path / "t.parquet", overwrite=True)
    ledger = Ledger.create(output.run, IDENTITY, {})
    ledger.commit(COMMITS[0])
    monkeypatch.setattr("jobs.publish.pq.write_table", fill_up)
    with pytest.raises(OutputError, match="no space left on device"):
        publish(ledger, [done.video for done in COMMITS[0]], IDENTITY, output)
    assert (tmp_path / "t.parquet").read_bytes() == b"old"
    assert (tmp_path / "t.videos.parquet").read_bytes() == b"old videos"
    assert not list(tmp_path.glob(".*"))
    assert Ledger(output.run).kept(COMMITS[0][0].video) is not None


def test_a_run_folder_that_another_run_wrote_to_is_not_published(tmp_path: Path) -> None:
    output = choose_output(tmp_path / "t.parquet")
    ours, theirs = (Ledger.create(output.run, IDENTITY, {}) for _ in range(2))
    ours.commit([make_finished("/v/a.mp4", "a")])
    theirs.commit([make_finished("/v/b.mp4", "b")])  # In place of our part: both count from the same number.
    with pytest.raises(OutputError, match="another vtag run"):
        publish(ours, [make_finished("/v/a.mp4", "a").video], IDENTITY, output)
    assert not output.tags.exists()


class TestPlaces:
    def test_a_file_has_its_videos_and_its_run_folder_beside_it(self, tmp_path: Path) -> None:
        output = choose_output(tmp_path / "t.parquet")
        assert (output.tags.name, output.videos.name, output.run.name) == (
            "t.parquet",
            "t.videos.parquet",
            "t.parquet.run",
        )

    @pytest.mark.parametrize("out", ["t.parquet", "result"])
    def test_an_existing_result_is_replaced_only_when_asked(self, tmp_path: Path, out: str) -> None:
        publish_to(tmp_path / out)
        with pytest.raises(OutputError, match="--overwrite"):
            choose_output(tmp_path / out)
        choose_output(tmp_path / out, overwrite=True)

    def test_a_job_that_stopped_between_its_two_files_can_finish(self, tmp_path: Path) -> None:
        publish_to(tmp_path / "t.parquet")
        (tmp_path / "t.parquet").unlink()
        choose_output(tmp_path / "t.parquet")

    def test_a_folder_with_other_things_is_never_taken(self, tmp_path: Path) -> None:
        (tmp_path / "photo.jpg").touch()
        with pytest.raises(OutputError, match="other things"):
            choose_output(tmp_path, overwrite=True)

    def test_an_empty_folder_may_be_filled(self, tmp_path: Path) -> None:
        assert choose_output(tmp_path).is_folder

    @pytest.mark.parametrize(
        ("out", "says"),
        [
            ("gone/t.parquet", "does not exist"),
            ("s3://bucket/t.parquet", "not supported yet"),
            ("plain", "existing file"),
        ],
    )
    def test_a_place_that_cannot_be_is_refused_before_any_work(self, tmp_path: Path, out: str, says: str) -> None:
        (tmp_path / "plain").touch()
        with pytest.raises(OutputError, match=says):
            choose_output(Path(out) if "://" in out else tmp_path / out)
