"""The embeddings of a result have a row for each row of the tags: of the same video and segment, in the same order."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.result.ledger import Ledger, committed_parts, remove
from jobs.result.output import choose_output
from jobs.result.publish import publish
from jobs.result.published import UnusableResultError, complete, read_result
from jobs.result.rewrite.compact import compact
from jobs.result.verify import verify
from jobs.tagging.finished.rows import result_tables
from tagger.errors import OutputError
from tagger.schema import embeddings_schema
from tests.jobs.result.embedded import add_embeddings, check_embeddings, vector_of, vectors_of
from tests.jobs.result.finished import EMBEDDED, commit_to, make_finished, publish_to

VIDEOS = [make_finished("/v/a.mp4", "aab"), make_finished("/v/b.mp4", ""), make_finished("/v/c.mp4", "c")]

OUTS = pytest.mark.parametrize("out", ["t.parquet", "result"])


def embed(out: Path, *commits: list, **options) -> None:  # type: ignore[no-untyped-def]
    publish_to(out, *commits, identity=EMBEDDED, **options)


def files(out: Path) -> list[str]:
    """Returns the names of all files in the folder of ``out``."""
    return sorted(str(path.relative_to(out.parent)) for path in out.parent.rglob("*") if path.is_file())


@OUTS
def test_a_result_has_an_embedding_for_each_segment_and_none_for_a_failed_video(out: str, tmp_path: Path) -> None:
    embed(tmp_path / out, VIDEOS)
    assert check_embeddings(tmp_path / out) == 4
    assert verify(str(tmp_path / out)).problem is None


@OUTS
def test_a_result_of_failed_videos_only_has_no_rows(out: str, tmp_path: Path) -> None:
    embed(tmp_path / out, VIDEOS[1:2])
    assert check_embeddings(tmp_path / out) == 0
    assert verify(str(tmp_path / out)).problem is None
    embed(tmp_path / out, VIDEOS[:1])
    assert check_embeddings(tmp_path / out) == 3


@OUTS
@settings(max_examples=20)
@given(
    commits=st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.text("xyz", max_size=4), max_size=4), min_size=1, max_size=4
    ),
    kept=st.lists(st.sets(st.sampled_from("abcdef")), max_size=4),
)
def test_rows_and_embeddings_fit_after_any_runs_that_change_and_prune_videos(
    out: str, commits: list[dict[str, str]], kept: list[set[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("runs") / out
    expected: dict[str, str] = {}
    for number, labels_of in enumerate(commits):
        videos = [make_finished(name, labels, mtime_ns=number) for name, labels in labels_of.items()]
        drop = sorted(set("abcdef") - kept[number]) if number < len(kept) else []
        embed(place, videos[:2], videos[2:], drop=drop)
        expected |= labels_of
        expected = {name: labels for name, labels in expected.items() if name not in drop}
        assert check_embeddings(place) == sum(map(len, expected.values()))
        assert verify(str(place)).problem is None


def test_a_merge_in_ranges_keeps_each_vector_beside_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.result.merge.EMBEDDED_RANGE_ROWS", 10)
    monkeypatch.setattr("jobs.result.merge.EMBEDDINGS_GROUP_ROWS", 3)
    rng = random.Random(0)
    videos = [make_finished(f"/v/{i:03}.mp4", "".join(rng.choices("abc", k=rng.randrange(6)))) for i in range(60)]
    rng.shuffle(videos)
    embed(tmp_path / "t.parquet", videos[:20], videos[20:40])
    changed = [make_finished(video.video.path, "xy", mtime_ns=2) for video in videos[:5]]
    embed(tmp_path / "t.parquet", [*videos[40:], *changed])
    segments = sum(len(video.segments) for video in videos[5:]) + 10
    assert check_embeddings(tmp_path / "t.parquet") == segments


def test_a_folder_ends_part_files_earlier_with_embeddings_and_compact_merges_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.result.publish.EMBEDDED_ROWS_PER_FILE", 4)
    monkeypatch.setattr("jobs.result.merge.EMBEDDED_RANGE_ROWS", 4)
    embed(tmp_path / "result", [make_finished(f"/v/{i}.mp4", "abc") for i in range(6)])
    parts = json.loads((tmp_path / "result/manifest.json").read_text())["parts"]
    assert len(parts) > 1
    assert [part["embeddings_file"] for part in parts] == [
        f"parts/part-{i:05}.embeddings.parquet" for i in range(len(parts))
    ]
    assert check_embeddings(tmp_path / "result") == 18
    monkeypatch.undo()
    compact(str(tmp_path / "result"), str(tmp_path / "t.parquet"))
    compact(str(tmp_path / "result"))
    part = f"part-{len(parts):05}"
    assert sorted(path.name for path in (tmp_path / "result/embeddings").iterdir()) == [f"{part}.parquet"]
    # The manifest of before names no file any more.
    assert sorted(path.name for path in (tmp_path / "result/parts").iterdir()) == [
        f"{part}.{table}.parquet" for table in ("embeddings", "tags", "videos")
    ]
    assert check_embeddings(tmp_path / "result") == check_embeddings(tmp_path / "t.parquet") == 18


def test_the_metadata_names_the_run_the_model_and_the_size(tmp_path: Path) -> None:
    embed(tmp_path / "t.parquet", VIDEOS)
    metadata = [
        pq.read_schema(tmp_path / name).metadata for name in ("t.embeddings.parquet", "t.parquet", "t.videos.parquet")
    ]
    assert metadata[0] == metadata[1] == metadata[2]
    assert metadata[0].keys() >= {b"vtag.model", b"vtag.model_hash", b"vtag.sampling", b"vtag.run"}
    assert json.loads(metadata[0][b"vtag.embeddings"]) == EMBEDDED.embeddings
    schema = pq.read_schema(tmp_path / "t.embeddings.parquet")
    assert schema.equals(embeddings_schema(8)) and schema.field("embedding").type.value_type == pa.float16()
    names, _, vectors = (pq.read_metadata(tmp_path / "t.embeddings.parquet").row_group(0).column(i) for i in range(3))
    assert names.statistics.min == "/v/a.mp4", "a search for one video reads few row groups"
    assert vectors.statistics is None and not vectors.has_dictionary_page, "they would only cost time"


def test_without_embeddings_a_result_is_as_before(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", VIDEOS)
    publish_to(tmp_path / "result", VIDEOS)
    assert [name for name in files(tmp_path / "t.parquet") if "embed" in name] == []
    assert not (tmp_path / "result/embeddings").exists()
    for path in (tmp_path / "t.parquet", tmp_path / "t.videos.parquet"):
        assert b"vtag.embeddings" not in pq.read_schema(path).metadata
    assert "embed" not in (tmp_path / "result/manifest.json").read_text()
    assert json.loads((tmp_path / "result/manifest.json").read_text())["format"] == 1


class TestOverwrite:
    @OUTS
    def test_a_result_without_embeddings_gets_them(self, out: str, tmp_path: Path) -> None:
        publish_to(tmp_path / out, VIDEOS)
        embed(tmp_path / out, VIDEOS, replaces=True)
        assert check_embeddings(tmp_path / out) == 4

    @OUTS
    def test_a_result_with_embeddings_loses_them(self, out: str, tmp_path: Path) -> None:
        embed(tmp_path / out, VIDEOS)
        publish_to(tmp_path / out, VIDEOS, replaces=True)
        assert not (tmp_path / "t.embeddings.parquet").exists()
        assert not (tmp_path / "result/embeddings").exists()
        assert verify(str(tmp_path / out)).problem is None
        publish_to(tmp_path / out, [make_finished("/v/d.mp4")])
        assert [name for name in files(tmp_path / out) if "embed" in name and "parts" not in name] == []

    def test_a_file_of_this_name_that_vtag_did_not_write_stays(self, tmp_path: Path) -> None:
        for content in (b"mine", b""):
            (tmp_path / "t.embeddings.parquet").write_bytes(content)
            publish_to(tmp_path / "t.parquet", VIDEOS, replaces=True)
            assert (tmp_path / "t.embeddings.parquet").read_bytes() == content
        pq.write_table(pa.table({"x": [1]}), tmp_path / "t.embeddings.parquet")
        publish_to(tmp_path / "t.parquet", VIDEOS, replaces=True)
        assert pq.read_table(tmp_path / "t.embeddings.parquet").num_rows == 1


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def with_names(table: pa.Table, name: str) -> pa.Table:
    return table.set_column(0, table.schema.field(0), pa.array([name] * table.num_rows))


def with_vector(row: int, vector: np.ndarray) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        vectors = vectors_of(table).copy()
        vectors[row] = vector
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        return table.set_column(2, table.schema.field(2), column)

    return change


class TestVerify:
    @pytest.fixture(params=["t.parquet", "result"])
    def out(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        embed(tmp_path / request.param, VIDEOS)
        return tmp_path / request.param

    @pytest.fixture
    def file(self, out: Path) -> Path:
        """The embeddings: a file, or the part file that the manifest names."""
        if out.suffix:
            return out.with_suffix(".embeddings.parquet")
        return out / "parts/part-00000.embeddings.parquet"

    def problem(self, out: Path) -> str:
        return verify(str(out)).problem or ""

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda table: table.slice(1), "embeddings of /v/a.mp4 are missing or wrong (from segment 0)"),
            (lambda table: table.slice(0, 3), "embeddings of /v/c.mp4 are missing or wrong (from segment 0)"),
            (lambda table: table.slice(0, 0), "embeddings of /v/a.mp4 are missing or wrong (from segment 0)"),
            (lambda table: table.take(pa.array([0, 2, 1, 3])), "embeddings of /v/a.mp4 are missing or wrong"),
            (lambda table: pa.concat_tables([table, table.slice(3)]), "has more rows than"),
            (lambda table: with_names(table, "/v/d.mp4"), "embeddings of /v/a.mp4 are missing or wrong"),
            (with_vector(1, np.zeros(8)), "the embedding of segment 1 of /v/a.mp4 is damaged"),
            (with_vector(3, np.full(8, np.nan)), "the embedding of segment 0 of /v/c.mp4 is damaged"),
            (with_vector(0, np.ones(8)), "the embedding of segment 0 of /v/a.mp4 is damaged"),
        ],
    )
    def test_missing_extra_misplaced_and_damaged_rows_are_found(
        self, out: Path, file: Path, change: Callable[[pa.Table], pa.Table], says: str
    ) -> None:
        rewrite(file, change)
        assert says in self.problem(out)
        assert str(file) in self.problem(out)

    def test_a_missing_file_is_found_and_a_run_does_not_extend_the_result(self, out: Path, file: Path) -> None:
        file.unlink()
        if out.suffix:
            with pytest.raises(UnusableResultError, match=r"t\.embeddings\.parquet, which belongs to .* is missing"):
                verify(str(out))
        else:
            assert f"{file} is missing, and the manifest names it" in self.problem(out)

    def test_a_file_of_another_run_is_found(self, out: Path, file: Path, tmp_path: Path) -> None:
        # The rows are the same, and the run is another.
        other = tmp_path / "u.parquet"
        embed(other, VIDEOS)
        file.unlink()
        other.with_suffix(".embeddings.parquet").replace(file)
        if out.suffix:
            with pytest.raises(UnusableResultError, match="come from different runs"):
                verify(str(out))
        else:
            assert "come from different runs" in self.problem(out)

    def test_a_file_that_is_no_parquet_file_is_found(self, out: Path, file: Path) -> None:
        file.write_bytes(file.read_bytes()[:-3])
        if out.suffix:
            with pytest.raises(OutputError, match=rf"^{file}, which belongs to {out}, cannot be read: it is no Pa"):
                verify(str(out))
        else:
            assert "cannot be read" in self.problem(out)

    def test_vectors_of_another_size_are_found(self, out: Path, file: Path) -> None:
        def shorter(table: pa.Table) -> pa.Table:
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors_of(table)[:, :4].reshape(-1)), 4)
            return pa.table([table["video"], table["segment"], column], schema=embeddings_schema(4))

        rewrite(file, shorter)
        if out.suffix:
            with pytest.raises(UnusableResultError, match="no result of this version"):
                verify(str(out))
        else:
            assert "its columns are not those of a result of vtag" in self.problem(out)

    def test_rows_of_an_interrupted_run_are_checked_as_well(self, out: Path) -> None:
        run = choose_output(out).run_folder
        commit_to(choose_output(out), [make_finished("/v/d.mp4", "dd")], identity=EMBEDDED)
        assert verify(str(out)).waiting == 1
        rewrite(Path(run.path) / "part-000000.embeddings.parquet", lambda table: table.slice(1))
        assert "embeddings of /v/d.mp4 are missing or wrong" in self.problem(out)


def test_a_deleted_name_of_a_part_is_made_again_from_the_other(tmp_path: Path) -> None:
    embed(tmp_path / "result", VIDEOS)
    output = choose_output(tmp_path / "result")
    for name in ("parts/part-00000.embeddings.parquet", "embeddings/part-00000.parquet"):
        (tmp_path / "result" / name).unlink()
        assert "is missing" in (verify(str(tmp_path / "result")).problem or "")
        complete(output)
        assert verify(str(tmp_path / "result")).problem is None
        assert check_embeddings(tmp_path / "result") == 4


def test_rows_are_not_published_without_their_embeddings(tmp_path: Path) -> None:
    output = choose_output(tmp_path / "t.parquet")
    ledger = commit_to(output, VIDEOS, [make_finished("/v/d.mp4")], identity=EMBEDDED)
    parts = committed_parts(output.run_folder)
    for part, says in (
        (replace(parts[1], embeddings=parts[0].embeddings), "the rows do not fit those of the tags table"),
        (replace(parts[1], embeddings=None), "has no embeddings beside it"),
    ):
        with pytest.raises(OutputError, match=says):
            publish(output, EMBEDDED, ledger.run_id, None, [parts[0], part])
        assert files(tmp_path / "t.parquet") == [f"t.parquet.run/{name}" for name in output.run_folder.names()]
    parts[1].embeddings.delete()  # type: ignore[union-attr]
    with pytest.raises(OutputError, match="lacks parts that were committed to it"):
        committed_parts(output.run_folder)


@pytest.mark.parametrize("held", [0, 1, 2])
def test_a_commit_checks_the_lock_before_each_file_and_counts_only_when_it_is_complete(
    tmp_path: Path, held: int
) -> None:
    run_folder = choose_output(tmp_path / "t.parquet").run_folder
    checks = iter([""] * held)

    def check() -> None:
        if next(checks, "lost"):
            raise OutputError("another job has taken over this output")

    ledger = Ledger.open(run_folder, EMBEDDED, check_lock=check)
    video = replace(VIDEOS[0], segments=add_embeddings(VIDEOS[0].segments, 8))
    with pytest.raises(OutputError, match="another job has taken over"):
        ledger.commit(*result_tables([video], 8))
    names = ["part-000000.embeddings.parquet", "part-000000.tags.parquet"]
    assert [name for name in run_folder.names() if name.startswith("part")] == sorted(names[2 - held :])
    assert committed_parts(run_folder) == []
    Ledger(run_folder).commit(*result_tables([video], 8))
    assert [len(part.files) for part in committed_parts(run_folder)] == [3]
    remove(run_folder)
    assert run_folder.names() == []


def test_the_name_of_the_embeddings_is_refused_with_the_name_of_their_result(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is the name of a table of embeddings; name the result .*: t\.parquet"):
        choose_output("t.embeddings.parquet")
    (tmp_path / "t.embeddings.parquet").mkdir()
    assert read_result(choose_output(tmp_path / "t.parquet")) is None
    with pytest.raises(OutputError, match=r"t\.embeddings\.parquet is a folder, and vtag writes a file of that name"):
        choose_output(tmp_path / "t.parquet", embeddings=True)


class TestReaders:
    @pytest.fixture
    def result(self, tmp_path: Path) -> Path:
        embed(tmp_path / "t.parquet", VIDEOS)
        return tmp_path / "t.parquet"

    def test_duckdb_finds_the_most_similar_segments(self, result: Path) -> None:
        found = duckdb.sql(
            f"""
            WITH vectors AS (
                SELECT video, segment, embedding::FLOAT[8] AS vector
                FROM '{result.with_suffix(".embeddings.parquet")}'
            )
            SELECT t.video, t.segment, t.label, array_cosine_similarity(v.vector, wanted.vector) AS similarity
            FROM vectors AS v
            JOIN '{result}' AS t USING (video, segment),
            (SELECT vector FROM vectors WHERE video = '/v/a.mp4' AND segment = 1) AS wanted
            ORDER BY similarity DESC
            """
        ).fetchall()
        assert [row[:3] for row in found[:1]] == [("/v/a.mp4", 1, "a")]
        vectors = {key: vector_of(*key, 8).astype(np.float32) for key in (("a", 0), ("a", 1), ("b", 2), ("c", 0))}
        for _, segment, label, similarity in found:
            assert similarity == pytest.approx(float(vectors[label, segment] @ vectors["a", 1]), abs=2e-3)

    def test_pandas_and_numpy_read_them(self, result: Path) -> None:
        frame = pd.read_parquet(result.with_suffix(".embeddings.parquet"))
        vectors = np.stack(frame["embedding"].to_list())
        assert vectors.dtype == np.float16 and vectors.shape == (4, 8)
        np.testing.assert_array_equal(vectors[0], vector_of("a", 0, 8))
