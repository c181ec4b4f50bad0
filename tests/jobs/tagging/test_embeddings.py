"""``--embeddings`` writes a vector beside each row of the result, in every run that extends it."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import jobs.archive.fingerprint
from jobs.result.rewrite.compact import compact
from jobs.result.verify import verify
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import MaxPrune, RunConfig
from jobs.tagging.summary import Summary
from tagger.errors import OutputError
from tests.jobs.result.embedded import check_embeddings
from tests.jobs.s3_server import Bucket
from tests.jobs.tagging.killed import DriverWithoutRay
from tests.jobs.tagging.test_moved import run_and_interrupt


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three videos, of which Ray would make a segment for each byte. The second is read only in part."""
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverWithoutRay)
    monkeypatch.setattr(jobs.archive.fingerprint, "fingerprint", lambda path: "s1:" + Path(path).read_bytes().hex())
    (tmp_path / "videos").mkdir()
    for name, content in (("a", "aab"), ("b", "!bb"), ("c", "c")):
        (tmp_path / "videos" / f"{name}.mp4").write_text(content)
    return tmp_path / "videos"


@pytest.fixture(params=["tags.parquet", "tags"])
def config(request: pytest.FixtureRequest, archive: Path, tmp_path: Path) -> RunConfig:
    return RunConfig((str(archive),), tmp_path / request.param)


def run(config: RunConfig) -> Summary:
    """Runs a job and checks that rows and embeddings fit."""
    summary = run_job(make_plan(config))
    assert check_embeddings(config.out) == summary.segments
    assert verify(str(config.out)).problem is None
    return summary


def with_embeddings(config: RunConfig, *, overwrite: bool = False) -> RunConfig:
    return replace(config, embeddings=True, overwrite=overwrite)


def test_later_runs_go_on_with_the_embeddings_of_the_result(config: RunConfig, archive: Path) -> None:
    summary = run(with_embeddings(config))
    assert (summary.segments, summary.partial) == (6, 1)
    assert Path(summary.embeddings_out or "").name in ("tags.embeddings.parquet", "embeddings")
    (archive / "new.mp4").write_text("new")
    (archive / "a.mp4").write_text("changed")
    (archive / "c.mp4").rename(archive / "moved.mp4")
    again = run(config)
    assert (again.new, again.changed, again.moved, again.segments) == (1, 1, 1, 13)
    assert again.embeddings_out == summary.embeddings_out
    (archive / "new.mp4").unlink()
    assert run(replace(config, prune=True, max_prune=MaxPrune(videos=1))).segments == 10
    assert make_plan(config).is_done and make_plan(with_embeddings(config)).is_done


def test_a_video_that_gives_less_than_before_keeps_its_rows_and_its_embeddings(
    config: RunConfig, archive: Path
) -> None:
    run(with_embeddings(config))
    (archive.parent / "worse b.mp4").touch()
    assert run(replace(config, retry_failed=True)).segments == 6


def test_an_interrupted_run_continues_with_its_embeddings(
    config: RunConfig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_and_interrupt(with_embeddings(config), monkeypatch)
    assert run(config).segments == 6
    (archive / "d.mp4").write_text("d")
    run_and_interrupt(config, monkeypatch)
    assert run(with_embeddings(config)).segments == 7


def test_a_result_without_embeddings_gets_them_only_when_it_is_overwritten(config: RunConfig) -> None:
    run_job(make_plan(config))
    with pytest.raises(OutputError) as refused:
        make_plan(with_embeddings(config))
    assert str(refused.value) == (
        f"{config.out} has no embeddings; use --embeddings --overwrite to tag all videos again with embeddings, "
        "or leave out --embeddings to extend it as it is"
    )
    assert run(with_embeddings(config, overwrite=True)).segments == 6


def test_a_result_that_is_overwritten_without_the_option_has_no_embeddings(config: RunConfig) -> None:
    run(with_embeddings(config))
    assert run_job(make_plan(replace(config, overwrite=True))).embeddings_out is None
    assert verify(str(config.out)).problem is None
    with pytest.raises(OutputError, match="has no embeddings"):
        make_plan(with_embeddings(config))


def test_an_interrupted_run_without_embeddings_is_not_continued_with_them(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_and_interrupt(config, monkeypatch)
    with pytest.raises(OutputError, match=r"interrupted run without embeddings; leave out --embeddings to finish it"):
        make_plan(with_embeddings(config))
    assert run(with_embeddings(config, overwrite=True)).segments == 6


def test_embeddings_of_another_version_are_not_mixed(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    run(with_embeddings(config))
    monkeypatch.setattr("tagger.models.embeddings.embedding.EMBEDDING_VERSION", 1000)
    with pytest.raises(OutputError, match="was made with embeddings of another version of vtag; use --overwrite"):
        make_plan(config)


def test_many_runs_into_a_folder_are_merged_with_their_embeddings(archive: Path, tmp_path: Path) -> None:
    config = RunConfig((str(archive),), tmp_path / "tags", embeddings=True)
    (archive / "b.mp4").unlink()
    for name in ("d", "e", "f"):
        run(config)
        (archive / f"{name}.mp4").write_text(name)
    run(config)
    assert len(list((tmp_path / "tags/embeddings").iterdir())) == 4
    compact(str(tmp_path / "tags"))
    assert len(list((tmp_path / "tags/embeddings").iterdir())) == 1
    assert check_embeddings(tmp_path / "tags") == 7
    assert verify(str(tmp_path / "tags")).problem is None


def test_a_run_without_the_option_writes_no_file_and_no_word_of_embeddings(config: RunConfig, tmp_path: Path) -> None:
    assert run_job(make_plan(config)).embeddings_out is None
    assert [path for path in tmp_path.rglob("*") if "embedding" in path.name] == []
    for path in [path for path in tmp_path.rglob("*.parquet") if path.is_file()]:
        assert not [key for key in pq.read_schema(path).metadata if b"embedding" in key]


@pytest.mark.parametrize("out", ["tags.parquet", "tags"])
def test_a_result_in_a_bucket_has_embeddings(out: str, archive: Path, bucket: Bucket) -> None:
    config = RunConfig((str(archive),), f"{bucket.address}/{out}", embeddings=True)
    table = "tags/embeddings" if out == "tags" else "tags.embeddings.parquet"
    assert run(config).embeddings_out == f"{bucket.address}/{table}"
    (archive / "a.mp4").write_text("changed")
    assert run(replace(config, embeddings=False)).segments == 10
    run_job(make_plan(replace(config, embeddings=False, overwrite=True)))
    assert [key for key in bucket.list() if "embedding" in key and not key.startswith("tags/parts/")] == []
