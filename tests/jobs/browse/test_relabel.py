"""A relabelled result has the answers of another model, from its embeddings. Its other tables stay as they are."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobs.result.rewrite.exclusive
from jobs.browse.vectors.relabel import best_labels, relabel
from jobs.result.identity import RunIdentity
from jobs.result.ledger import Ledger
from jobs.result.output import find_output
from jobs.result.published import UnusableResultError, read_result
from jobs.result.rewrite.compact import compact
from jobs.result.verify import verify
from tagger import ModelSource, Sampling
from tagger.errors import InputError, ModelFileError, OutputError
from tagger.segments import make_segments
from tagger.windows import Window
from tests.jobs.browse.made_up_models import CALIBRATION, expected_tags, identity_of, write_model
from tests.jobs.result.finished import make_finished, publish_to
from tests.jobs.s3_server import Bucket

RUNS = (
    [make_finished("/v/a.mp4", "abbac"), make_finished("/v/b.mp4", "")],
    [make_finished("/v/d.mp4", "")],
    [make_finished("/v/c.mp4", "ca")],
)
"""Three runs; in a folder each has a part, one of them without segments."""


@pytest.fixture
def old(tmp_path: Path) -> ModelSource:
    return write_model(tmp_path / "old.safetensors", "abc")


@pytest.fixture
def mine(tmp_path: Path) -> ModelSource:
    """A model with more labels than the result has."""
    return write_model(tmp_path / "mine.safetensors", "abcdefg", ood=CALIBRATION)


@pytest.fixture(params=["tags.parquet", "tags"])
def tags(request: pytest.FixtureRequest, old: ModelSource, tmp_path: Path) -> Path:
    publish(tmp_path / request.param, identity_of(old))
    return tmp_path / str(request.param)


def publish(out: Path | str, identity: RunIdentity) -> None:
    for videos in RUNS:
        publish_to(out, videos, identity=identity)


@pytest.fixture
def quick_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes jobs wait for no others in a bucket: each job before has ended."""
    for name in ("SETTLE_S", "TRY_AGAIN_S", "HEARTBEAT_S"):
        monkeypatch.setattr(f"jobs.result.lock.{name}", 0.01)
    monkeypatch.setattr("jobs.result.lock.Lock._beat", lambda lock: None)
    monkeypatch.setattr("jobs.result.lock.has_ended", lambda holder: True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet") if path.is_file()}


def rows(out: Path | str, table: str = "tags") -> list[dict[str, Any]]:
    """Returns the rows of a table, as a reader of the manifest or of the file finds them."""
    result = read_result(find_output(out))
    assert result is not None
    return [row for source in result.sources for row in getattr(source, table).parquet().read().to_pylist()]


def expected(out: Path | str, model: ModelSource, top_k: int = 2) -> list[dict[str, Any]]:
    result = read_result(find_output(out))
    assert result is not None
    return [
        row
        for source in result.sources
        for row in expected_tags(str(source.tags), str(source.embeddings), model, top_k)
    ]


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    """Checks that rows are equal, and confidences nearly so: products of matrices depend on the number of rows."""
    assert len(found) == len(wanted)
    for row, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(row["top_confidences"], other["top_confidences"], rtol=1e-4)
        assert row["confidence"] == row["top_confidences"][0]
        for name in row.keys() - {"confidence", "top_confidences"}:
            assert row[name] == other[name], name
    return True


class TestInPlace:
    def test_all_rows_get_the_answers_of_the_new_model_and_keep_their_times(
        self, tags: Path, mine: ModelSource
    ) -> None:
        before, wanted = rows(tags), expected(tags, mine)
        done = relabel(str(tags), mine)
        found = rows(tags)
        assert done is not None and same(found, wanted)
        assert all(row["ood_score"] is not None for row in found)
        assert (done.videos, done.segments, done.model_hash) == (4, 7, mine.hash)
        assert done.before == Counter("abbacca") and done.after == Counter(row["label"] for row in found)
        assert done.changed == sum(row["label"] != was["label"] for row, was in zip(found, before, strict=True)) > 0

    def test_verify_accepts_the_result_and_names_the_new_model(self, tags: Path, mine: ModelSource) -> None:
        before = verify(str(tags))
        relabel(str(tags), mine)
        after = verify(str(tags))
        assert (after.problem, after.videos, after.segments) == (None, before.videos, before.segments)
        assert after.identity == replace(before.identity, model="mine", model_hash=mine.hash)

    def test_videos_and_embeddings_stay_as_they_are(self, tags: Path, mine: ModelSource) -> None:
        tables = [rows(tags, table) for table in ("videos", "embeddings")]
        before = files(tags.parent)
        relabel(str(tags), mine)
        assert [rows(tags, table) for table in ("videos", "embeddings")] == tables
        after = files(tags.parent)
        if tags.suffix:
            assert {name for name in after if after[name] != before.get(name)} == {"tags.parquet"}
        else:
            assert sorted(after[name] for name in after if name.startswith("tags/embeddings/")) == sorted(
                before[name] for name in before if name.startswith("tags/embeddings/")
            )

    def test_the_metadata_of_the_tags_names_the_new_model_and_the_run_of_the_other_tables(
        self, tags: Path, mine: ModelSource
    ) -> None:
        relabel(str(tags), mine)
        result = read_result(find_output(tags))
        assert result is not None
        for source in result.sources:
            assert source.embeddings is not None
            tags_of, beside = (file.parquet().schema_arrow.metadata for file in (source.tags, source.embeddings))
            assert (tags_of.pop(b"vtag.model"), tags_of.pop(b"vtag.model_hash")) == (b"mine", mine.hash.encode())
            assert beside.pop(b"vtag.model") == b"old" and beside.pop(b"vtag.model_hash") != mine.hash.encode()
            for name in (b"vtag.run", b"vtag.sampling", b"vtag.embeddings", b"vtag.top_k", b"vtag.version"):
                assert tags_of[name] == beside[name], name

    def test_nothing_else_is_left_beside_the_result(self, tags: Path, mine: ModelSource) -> None:
        before = sorted(path.name for path in tags.parent.iterdir())
        relabel(str(tags), mine)
        assert sorted(path.name for path in tags.parent.iterdir()) == before

    def test_a_result_that_has_the_labels_of_the_model_stays_as_it_is(self, tags: Path, mine: ModelSource) -> None:
        relabel(str(tags), mine)
        before = files(tags)
        assert relabel(str(tags), mine) is None
        assert files(tags) == before
        again = relabel(str(tags), mine, top_k=3)
        assert again is not None and again.changed == 0
        assert {len(row["top_labels"]) for row in rows(tags)} == {3}

    @pytest.mark.parametrize(("labels", "top_k"), [("x", 1), ("xy", 2), ("xyz", 2)])
    def test_as_many_labels_are_kept_as_before_or_as_the_new_model_has(
        self, tags: Path, tmp_path: Path, labels: str, top_k: int
    ) -> None:
        model = write_model(tmp_path / "m.safetensors", labels)
        wanted = expected(tags, model, top_k)
        relabel(str(tags), model)
        assert same(rows(tags), wanted)
        assert verify(str(tags)).identity.top_k == top_k
        assert {row["ood_score"] for row in rows(tags)} == {None}, "this model has no calibration"

    def test_runs_of_the_new_model_extend_the_result_and_compact_merges_it(
        self, tags: Path, mine: ModelSource, old: ModelSource
    ) -> None:
        relabel(str(tags), mine)
        before = rows(tags)
        new = make_finished("/v/e.mp4", "g", ood_score=0.5)
        publish_to(tags, [new, make_finished("/v/b.mp4", "f", mtime_ns=2)], identity=identity_of(mine))
        assert verify(str(tags)).problem is None
        if not tags.suffix:
            compact(str(tags))
            assert verify(str(tags)).problem is None
        found = rows(tags)
        assert [row for row in found if row["video"] in ("/v/a.mp4", "/v/c.mp4")] == before
        assert [row["label"] for row in found if row["video"] in ("/v/b.mp4", "/v/e.mp4")] == ["f", "g"]
        relabel(str(tags), old)
        assert verify(str(tags)).problem is None

    def test_rows_are_written_in_portions_across_row_groups(
        self, old: ModelSource, mine: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobs.result.publish.EMBEDDINGS_GROUP_ROWS", 7)
        out = tmp_path / "many.parquet"
        publish_to(out, [make_finished(f"/v/{n:02}.mp4", "abc" * n) for n in range(12)], identity=identity_of(old))
        wanted = expected(out, mine)
        for name, size in (("BATCH_ROWS", 11), ("ANSWERED_ROWS", 3)):
            monkeypatch.setattr(f"jobs.browse.vectors.relabel.{name}", size)
        relabel(str(out), mine)
        assert same(rows(out), wanted) and verify(str(out)).problem is None


class TestInAFolder:
    def test_the_parts_get_new_numbers_and_the_earlier_ones_stay_for_one_more_publication(
        self, old: ModelSource, mine: ModelSource, tmp_path: Path
    ) -> None:
        tags = tmp_path / "tags"
        publish(tags, identity_of(old))
        yesterday = json.loads((tags / "manifest.json").read_text())["parts"]
        numbers = [part["number"] for part in yesterday]
        before = rows(tags)
        relabel(str(tags), mine)
        first = max(numbers) + 1
        parts = json.loads((tags / "manifest.json").read_text())["parts"]
        assert [part["number"] for part in parts] == [*range(first, first + len(numbers))]
        shown = [f"part-{part['number']:05}.parquet" for part in parts]
        for table in ("tags", "videos", "embeddings"):
            assert sorted(path.name for path in (tags / table).iterdir()) == shown
        read = [row for part in yesterday for row in pq.read_table(tags / part["tags_file"]).to_pylist()]
        assert read == before, "a reader of the earlier manifest finds its files"
        relabel(str(tags), old)
        assert not (tags / yesterday[0]["tags_file"]).exists()
        assert all((tags / part["tags_file"]).exists() for part in parts)

    def test_the_first_part_may_have_no_segments(self, old: ModelSource, mine: ModelSource, tmp_path: Path) -> None:
        for videos in (RUNS[1], RUNS[0]):
            publish_to(tmp_path / "tags", videos, identity=identity_of(old))
        wanted = expected(tmp_path / "tags", mine)
        relabel(str(tmp_path / "tags"), mine)
        assert same(rows(tmp_path / "tags"), wanted) and verify(str(tmp_path / "tags")).problem is None

    def test_embeddings_take_no_more_room_on_a_disk(self, old: ModelSource, mine: ModelSource, tmp_path: Path) -> None:
        publish(tmp_path / "tags", identity_of(old))
        relabel(str(tmp_path / "tags"), mine)
        embeddings = list((tmp_path / "tags").rglob("*embeddings*/part-*")) + list(
            (tmp_path / "tags/parts").glob("*.embeddings.parquet")
        )
        assert len({path.stat().st_ino for path in embeddings}) == len(RUNS)


class TestToAnotherPlace:
    def test_the_result_stays_as_it_is_and_the_new_one_is_complete(
        self, tags: Path, mine: ModelSource, tmp_path: Path
    ) -> None:
        before, wanted = files(tmp_path), expected(tags, mine)
        new = tags.with_name(f"new{tags.suffix}")
        done = relabel(str(tags), mine, str(new))
        assert done is not None and done.out == str(new)
        assert same(rows(new), wanted) and verify(str(new)).problem is None
        assert {name: content for name, content in files(tmp_path).items() if name in before} == before
        assert verify(str(tags)).identity.model == "old"
        for table in ("videos", "embeddings"):
            assert rows(new, table) == rows(tags, table)
        assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".run")] == []

    def test_on_the_same_disk_the_embeddings_are_not_copied(
        self, tags: Path, mine: ModelSource, tmp_path: Path
    ) -> None:
        new = tags.with_name(f"new{tags.suffix}")
        relabel(str(tags), mine, str(new))
        first, second = (read_result(find_output(out)) for out in (tags, new))
        assert first is not None and second is not None
        for source, copy in zip(first.sources, second.sources, strict=True):
            assert source.embeddings is not None and copy.embeddings is not None
            assert Path(source.embeddings.path).samefile(copy.embeddings.path)

    @pytest.mark.usefixtures("quick_locks")
    @pytest.mark.parametrize("direction", ["to a bucket", "from a bucket", "within a bucket", "to another bucket"])
    @pytest.mark.parametrize("name", ["tags.parquet", "tags"])
    def test_a_result_is_copied_to_and_from_buckets(
        self,
        old: ModelSource,
        mine: ModelSource,
        tmp_path: Path,
        bucket: Bucket,
        direction: str,
        name: str,
    ) -> None:
        there = bucket.server.bucket().address if direction == "to another bucket" else bucket.address
        source = f"{tmp_path if direction == 'to a bucket' else bucket.address}/{name}"
        target = f"{tmp_path if direction == 'from a bucket' else there}/new-{name}"
        publish(source, identity_of(old))
        wanted = expected(source, mine)
        relabel(source, mine, target)
        assert same(rows(target), wanted) and verify(target).problem is None
        assert rows(target, "embeddings") == rows(source, "embeddings") and verify(source).identity.model == "old"

    @pytest.mark.usefixtures("quick_locks")
    @pytest.mark.parametrize("name", ["tags.parquet", "tags"])
    def test_a_result_in_a_bucket_is_relabelled_in_place(
        self, old: ModelSource, mine: ModelSource, bucket: Bucket, name: str
    ) -> None:
        out = f"{bucket.address}/{name}"
        publish(out, identity_of(old))
        wanted = expected(out, mine)
        relabel(out, mine)
        assert same(rows(out), wanted) and verify(out).problem is None
        assert not [key for key in bucket.list() if ".run" in key or ".tmp" in key]

    def test_without_hard_links_the_tables_are_copied(
        self, tags: Path, mine: ModelSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, target: Path) -> None:
            raise OSError(18, os.strerror(18), str(path))

        wanted = expected(tags, mine)
        monkeypatch.setattr(Path, "hardlink_to", refuse)
        new = tags.with_name(f"new{tags.suffix}")
        relabel(str(tags), mine, str(new))
        assert same(rows(new), wanted) and verify(str(new)).problem is None

    def test_a_result_that_exists_is_not_replaced(self, tags: Path, mine: ModelSource, old: ModelSource) -> None:
        new = tags.with_name(f"new{tags.suffix}")
        publish(new, identity_of(old))
        before = files(tags.parent)
        for out in (new, tags):
            with pytest.raises(OutputError, match=f"^{out} exists; choose another --out$"):
                relabel(str(tags), mine, str(out))
        assert files(tags.parent) == before

    def test_a_file_does_not_become_a_folder_nor_a_folder_a_file(self, tags: Path, mine: ModelSource) -> None:
        out = tags.with_name("new" if tags.suffix else "new.parquet")
        says = (
            f"^{tags} is a file, and --out {out} a folder; give --out FILE.parquet$"
            if tags.suffix
            else f"^{tags} is a folder, and --out {out} one file; give --out another name"
        )
        with pytest.raises(OutputError, match=says):
            relabel(str(tags), mine, str(out))
        assert not out.exists()


class TestRefused:
    def test_without_embeddings(self, mine: ModelSource, tmp_path: Path) -> None:
        publish_to(tmp_path / "t.parquet", RUNS[0])
        with pytest.raises(OutputError, match=r"has no embeddings; give its command of vtag run again with --embed"):
            relabel(str(tmp_path / "t.parquet"), mine)

    def test_without_segments(self, old: ModelSource, mine: ModelSource, tmp_path: Path) -> None:
        publish_to(tmp_path / "t.parquet", RUNS[1], identity=identity_of(old))
        with pytest.raises(OutputError, match=r"t\.parquet has no segments: no video of it could be read"):
            relabel(str(tmp_path / "t.parquet"), mine)

    @pytest.mark.parametrize(
        ("stored", "says"),
        [
            (
                {"version": 1},
                "whose embeddings are of another version of vtag; take a model that was made from old, or",
            ),
            ({"space": "other"}, "whose embeddings are of another backbone, or fitted to another training; take a"),
            ({"space": None}, "whose embeddings are of another backbone"),
            ({"size": 9}, "whose embeddings are of another backbone"),
            ({"preprocessing": {"height": 112}}, "whose embeddings are of frames that were prepared in another way"),
        ],
    )
    def test_embeddings_that_another_model_made(
        self, old: ModelSource, mine: ModelSource, tmp_path: Path, stored: dict[str, Any], says: str
    ) -> None:
        identity = identity_of(old)
        identity = replace(identity, embeddings=identity.embeddings | stored)  # type: ignore[operator]
        publish(tmp_path / "t.parquet", identity)
        before = files(tmp_path)
        with pytest.raises(InputError, match=f"^mine cannot label {tmp_path}/t.parquet, {says}"):
            relabel(str(tmp_path / "t.parquet"), mine)
        assert files(tmp_path) == before

    @pytest.mark.parametrize(
        ("sampling", "is_refused"),
        [
            (Sampling(), False),
            (Sampling(hop_s=0.5), False),
            (Sampling(fast_decode=True), False),
            (Sampling(num_frames=8), True),
            (Sampling(sampling_rate=5), True),
            (Sampling(target_fps=25), True),
        ],
    )
    def test_another_sampling_than_the_run_can_choose(
        self, old: ModelSource, mine: ModelSource, tmp_path: Path, sampling: Sampling, is_refused: bool
    ) -> None:
        publish(tmp_path / "t.parquet", replace(identity_of(old), sampling=sampling.to_json()))
        if is_refused:
            with pytest.raises(InputError, match=r"embeddings are of another sampling \(.*; mine has 16×4 @ 30 fps\)"):
                relabel(str(tmp_path / "t.parquet"), mine)
        else:
            assert relabel(str(tmp_path / "t.parquet"), mine) is not None
            assert verify(str(tmp_path / "t.parquet")).identity.sampling == sampling.to_json()

    def test_a_model_that_always_decodes_fast_and_a_result_that_was_decoded_exactly(
        self, old: ModelSource, tmp_path: Path
    ) -> None:
        publish(tmp_path / "t.parquet", identity_of(old))
        fast = write_model(tmp_path / "fast.safetensors", "xyz", sampling=Sampling(fast_decode=True))
        with pytest.raises(InputError, match="of another sampling"):
            relabel(str(tmp_path / "t.parquet"), fast)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"embedding": None}, "the answers of other cannot be computed from embeddings"),
            ({"options": {"head": "lstm"}}, "other looks at the order of the frames"),
        ],
    )
    def test_a_model_that_cannot_answer_from_embeddings(
        self, tags: Path, tmp_path: Path, changes: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(ModelFileError, match=says):
            relabel(str(tags), write_model(tmp_path / "other.safetensors", "xyz", **changes))

    def test_a_copy_with_the_labels_that_it_has_already(self, tags: Path, old: ModelSource) -> None:
        with pytest.raises(
            OutputError, match="already has the labels of old; use it as it is, or give another --model"
        ):
            relabel(str(tags), old, str(tags.with_name(f"new{tags.suffix}")))

    def test_where_a_run_was_interrupted(self, tags: Path, old: ModelSource, mine: ModelSource) -> None:
        Ledger.open(find_output(tags).run_folder, identity_of(old))
        before = files(tags)
        for out in (None, str(tags.with_name(f"new{tags.suffix}"))):
            with pytest.raises(OutputError, match=rf"{tags.name}\.run holds an interrupted run; finish it first"):
                relabel(str(tags), mine, out)
        assert files(tags) == before

    def test_a_result_that_was_ended_in_the_middle_of_publishing(
        self, old: ModelSource, mine: ModelSource, tmp_path: Path
    ) -> None:
        publish(tmp_path / "tags.parquet", identity_of(old))
        publish_to(tmp_path / "new.parquet", RUNS[0], identity=identity_of(old))
        (tmp_path / "new.videos.parquet").replace(tmp_path / "tags.videos.parquet")
        Ledger.open(find_output(tmp_path / "tags.parquet").run_folder, identity_of(old))
        with pytest.raises(OutputError, match="its last run was ended in the middle of publishing"):
            relabel(str(tmp_path / "tags.parquet"), mine)

    def test_while_another_job_has_the_lock(self, tags: Path, mine: ModelSource) -> None:
        message = pytest.raises(OutputError, match="is being written by another vtag run")
        with jobs.result.rewrite.exclusive.locked(find_output(tags).run_folder), message:
            relabel(str(tags), mine)

    @pytest.mark.parametrize("out", [None, "new"])
    def test_a_folder_that_lacks_embeddings_is_refused_before_anything_is_written(
        self, old: ModelSource, mine: ModelSource, tmp_path: Path, out: str | None
    ) -> None:
        publish(tmp_path / "tags", identity_of(old))
        for file in (*(tmp_path / "tags/embeddings").iterdir(), *(tmp_path / "tags/parts").glob("*.embeddings.*")):
            if "part-00002" in file.name:
                file.unlink()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(OutputError, match=r"part-00002\.parquet cannot be read: .*; see vtag verify$"):
            relabel(str(tmp_path / "tags"), mine, out and str(tmp_path / out))
        assert sorted(tmp_path.rglob("*")) == before

    def test_embeddings_that_lack_a_row(self, old: ModelSource, mine: ModelSource, tmp_path: Path) -> None:
        publish(tmp_path / "t.parquet", identity_of(old))
        file = tmp_path / "t.embeddings.parquet"
        table = pq.read_table(file)
        pq.write_table(table.slice(1).replace_schema_metadata(table.schema.metadata), file)
        before = (tmp_path / "t.parquet").read_bytes()
        with pytest.raises(OutputError, match="the rows of its embeddings do not fit those of its tags"):
            relabel(str(tmp_path / "t.parquet"), mine)
        assert (tmp_path / "t.parquet").read_bytes() == before


def test_a_lost_lock_leaves_the_result_as_it_was(
    tags: Path, mine: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(tags)

    def lose(lock: object) -> None:
        raise OutputError("another job has taken over this output")

    monkeypatch.setattr("jobs.result.lock.Lock.check", lose)
    with pytest.raises(OutputError, match="has taken over"):
        relabel(str(tags), mine)
    assert rows(tags) == before and verify(str(tags)).problem is None


def test_a_part_file_that_has_lost_its_name_gets_it_when_the_labels_are_those_of_the_model(
    old: ModelSource, tmp_path: Path
) -> None:
    publish(tmp_path / "tags", identity_of(old))
    next((tmp_path / "tags/tags").iterdir()).unlink()
    assert "is missing" in (verify(str(tmp_path / "tags")).problem or "")
    assert relabel(str(tmp_path / "tags"), old) is None
    assert verify(str(tmp_path / "tags")).problem is None


def test_verify_reads_a_file_again_that_is_relabelled_during_the_check(
    old: ModelSource, mine: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "tags.parquet", identity_of(old))
    readings = [read_result(find_output(tmp_path / "tags.parquet"))]
    relabel(str(tmp_path / "tags.parquet"), mine)
    monkeypatch.setattr(
        "jobs.result.verify.read_result", lambda output: readings.pop() if readings else read_result(output)
    )
    found = verify(str(tmp_path / "tags.parquet"))
    assert (found.problem, found.identity.model) == (None, "mine")


def test_tables_of_two_models_are_one_result_only_when_they_are_of_one_run(
    old: ModelSource, mine: ModelSource, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        publish(tmp_path / f"{name}.parquet", identity_of(old))
    relabel(str(tmp_path / "a.parquet"), mine)
    (tmp_path / "a.parquet").replace(tmp_path / "b.parquet")
    with pytest.raises(UnusableResultError, match="come from different runs"):
        verify(str(tmp_path / "b.parquet"))


@given(
    st.integers(1, 7).flatmap(
        lambda classes: st.tuples(
            st.lists(st.lists(st.sampled_from([0.0, 1e-30, 0.25, 0.5, 1.0]), min_size=classes, max_size=classes)),
            st.integers(1, classes),
        )
    )
)
def test_the_best_labels_are_those_of_vtag_run_in_the_same_order(found: tuple[list[list[float]], int]) -> None:
    values, top_k = found
    classes = len(values[0]) if values else top_k
    probabilities = np.array(values, np.float32).reshape(len(values), classes)
    labels, confidences = best_labels(probabilities, top_k)
    windows = [Window(number, 0.0, 1.0) for number in range(len(values))]
    segments = make_segments(windows, probabilities, [str(number) for number in range(classes)], top_k)
    assert [[str(label) for label in row] for row in labels] == [list(segment.top_labels) for segment in segments]
    assert confidences.tolist() == [list(segment.top_confidences) for segment in segments]
    assert confidences.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize(("out", "steps"), [("in place", 8), ("new", 15)])
@pytest.mark.parametrize("name", ["tags.parquet", "tags"])
def test_killed_at_any_step_the_same_command_gives_the_whole_result(
    name: str, out: str, steps: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.jobs.browse.killed_relabel", str(tmp_path / "work"), name, out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["steps"] > steps


@pytest.mark.slow
@pytest.mark.usefixtures("quick_locks")
@pytest.mark.parametrize(("name", "least"), [("tags.parquet", 3), ("tags", 12)])
def test_cut_off_from_a_bucket_anywhere_the_same_command_gives_the_whole_result(
    old: ModelSource, mine: ModelSource, bucket: Bucket, name: str, least: int
) -> None:
    out = f"{bucket.address}/{name}"
    publish_to(out, RUNS[0], identity=identity_of(old))
    before, wanted = rows(out), expected(out, mine)
    content = {key: bucket.get(key) for key in bucket.list()}
    for writes in range(100):
        for key in bucket.list():
            bucket.delete(key)
        for key, data in content.items():
            bucket.put(key, data)
        bucket.server.writes_left = writes
        try:
            relabel(out, mine)
            is_over = True
        except OutputError:
            is_over = False
        bucket.server.recover()
        if is_over:
            break
        found = rows(out)
        assert found == before or same(found, wanted), f"after {writes} requests"
        relabel(out, mine)
        assert same(rows(out), wanted), f"after {writes} requests"
        assert verify(out).problem is None, f"after {writes} requests"
        assert not [key for key in bucket.list() if key.endswith(".tmp")]
    assert least <= writes < 100
