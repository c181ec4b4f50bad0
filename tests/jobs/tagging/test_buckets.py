"""Jobs whose videos, results and run folder are in a bucket."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.cli import main
from jobs.errors import Interrupted
from jobs.result.output import choose_output
from jobs.result.verify import verify
from jobs.storage.location import locate
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Progress, Summary
from tagger.errors import InputError, OutputError, VtagError
from tests.click_runner import CliRunner
from tests.clusters import cluster
from tests.jobs.s3_server import Bucket, S3Server


@pytest.fixture(scope="module")
def ray_with_s3_settings(s3: S3Server) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        with cluster(2) as nodes:
            yield nodes.address


@pytest.fixture
def through_ray(ray_with_s3_settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes jobs join a Ray with two CPUs whose workers have the settings of the S3 server."""
    monkeypatch.setenv("RAY_ADDRESS", ray_with_s3_settings)


@pytest.fixture
def config(bucket: Bucket, archive: Path, model_file: Path) -> RunConfig:
    """A job from a bucket into the same bucket."""
    for path in archive.rglob("*"):
        if path.is_file():
            bucket.put(f"in/50% of {path.relative_to(archive)}", path.read_bytes())
    out = f"{bucket.address}/out/tags.parquet"
    return RunConfig((f"{bucket.address}/in",), out, model=str(model_file), top_k=3, device="cpu", actors=1)


def run(config: RunConfig) -> Summary:
    return run_job(make_plan(config))


def results(bucket: Bucket) -> list[str]:
    """Returns the keys below ``out/``, without the marker of the folder itself."""
    return [key for key in bucket.list() if key.startswith("out/") and key != "out/"]


def read(place: str) -> pa.Table:
    return locate(place).parquet().read()


def rows(table: pa.Table, prefix: str) -> list[dict[str, object]]:
    """Returns the rows of videos below ``prefix``, without the prefix and the columns that differ between places."""
    kept = [
        {**row, "video": row["video"].removeprefix(prefix)}
        for row in table.to_pylist()
        if row["video"].startswith(prefix)
    ]
    differs = {"mtime", "mtime_ns", "error", "decode_s", "predict_s", "confidence", "top_confidences"}
    return [{key: value for key, value in row.items() if key not in differs} for row in kept]


@pytest.mark.usefixtures("through_ray")
class TestThroughRay:
    def test_rows_equal_those_of_the_same_files_on_a_local_disk(
        self, config: RunConfig, bucket: Bucket, archive: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "in"
        for path in archive.rglob("*"):
            if path.is_file():
                target = copy / f"50% of {path.relative_to(archive)}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        summary = run(replace(config, inputs=(*config.inputs, str(copy))))
        assert (summary.videos, summary.ok, summary.partial, summary.failed) == (12, 6, 2, 4)
        assert summary.out == f"{bucket.address}/out/tags.parquet"
        assert results(bucket) == ["out/tags.parquet", "out/tags.videos.parquet"]
        for table in (read(summary.out), read(summary.videos_out)):
            assert rows(table, f"{bucket.address}/in/") == rows(table, f"{copy}/") != []
        tags = read(summary.out).to_pylist()
        confidences = [
            [row["confidence"] for row in tags if row["video"].startswith(place)]
            for place in (bucket.address, str(copy))
        ]
        assert confidences[0] == pytest.approx(confidences[1], abs=1e-6)
        failed = [video for video in read(summary.videos_out).to_pylist() if video["status"] == "failed"]
        assert all(video["video"] in video["error"] for video in failed), "a failure names the object, not its copy"

    @pytest.mark.slow
    def test_a_second_run_reads_only_new_and_changed_videos(self, config: RunConfig, bucket: Bucket) -> None:
        first = run(config)
        again = run(config)
        assert (again.kept, again.new, again.changed) == (6, 0, 0)
        bucket.put("in/new.mp4", bucket.get("in/50% of good.mp4"))
        bucket.put("in/50% of text.mp4", bucket.get("in/50% of good.mp4"))
        grown = run(config)
        assert (grown.kept, grown.new, grown.changed) == (5, 1, 1)
        assert (grown.videos, grown.failed) == (7, first.failed - 1)

    @pytest.mark.slow
    def test_an_interrupted_job_keeps_finished_videos_in_the_bucket_and_continues(
        self, config: RunConfig, bucket: Bucket
    ) -> None:
        def stop(progress: Progress) -> None:
            if progress.videos_done == 3:
                raise KeyboardInterrupt

        with pytest.raises(Interrupted, match=r"3 of 6 videos .* kept in s3://.*/out/tags\.parquet\.run"):
            run_job(make_plan(config), stop)
        kept = results(bucket)
        assert "out/tags.parquet.run/part-000000.videos.parquet" in kept
        assert "out/tags.parquet" not in kept
        summary = run(config)
        assert (summary.kept, summary.videos) == (3, 6)
        assert results(bucket) == ["out/tags.parquet", "out/tags.videos.parquet"]
        assert len(set(read(summary.videos_out)["video"].to_pylist())) == 6

    @pytest.mark.slow
    def test_a_folder_in_a_bucket_holds_part_files(self, config: RunConfig, bucket: Bucket) -> None:
        summary = run(replace(config, out=f"{bucket.address}/result", inputs=(f"{bucket.address}/in/**/*.mkv",)))
        assert summary.ok == 1
        keys = [key for key in bucket.list() if key.startswith("result")]
        assert "result/manifest.json" in keys
        assert not [key for key in keys if ".run" in key]

    @pytest.mark.slow
    def test_requests_that_fail_sometimes_do_not_change_the_result(self, config: RunConfig, bucket: Bucket) -> None:
        plan = make_plan(config)
        failing = {"GET": 2, "HEAD": 2, "PUT": 2}

        def fail(progress: Progress) -> None:
            if progress.videos_done == 1 and failing:
                for method, times in failing.items():
                    bucket.server.fail(times, method=method)
                failing.clear()

        summary = run_job(plan, fail)
        assert not failing
        assert not bucket.server.is_failing, "all failing requests were made"
        assert (summary.videos, summary.ok, summary.partial, summary.failed) == (6, 3, 1, 2)


def test_missing_credentials_stop_a_job_before_it_starts(
    config: RunConfig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="there are no credentials"):
        make_plan(replace(config, out="tags.parquet"))
    with pytest.raises(OutputError, match="cannot be read: access is denied, and there are no credentials"):
        make_plan(replace(config, inputs=(str(archive),)))


def test_probe_reads_copies_of_videos_and_shows_their_addresses(bucket: Bucket, archive: Path) -> None:
    for name in ("good.mp4", "text.mp4"):
        bucket.put(f"in/{name}", (archive / name).read_bytes())
    listed = f"{bucket.address}/in/good.mp4\n{bucket.address}/in/gone.mp4\n{bucket.address}/in/text.mp4\n"
    bucket.put("list.txt", listed.encode())
    done = CliRunner().invoke(main, ["probe", f"@{bucket.address}/list.txt", "--decode", "--json"])
    assert done.exit_code == 3
    gone, good, text = (json.loads(line) for line in done.stdout.splitlines())
    assert (good["path"], good["error_kind"], good["windows"]) == (f"{bucket.address}/in/good.mp4", None, 3)
    assert gone["problems"] == [f"{bucket.address}/in/gone.mp4 does not exist"]
    assert text["error_kind"] == "not_video" and text["problems"][0].startswith(f"{bucket.address}/in/text.mp4 is not")
    shown = CliRunner().invoke(main, ["probe", f"{bucket.address}/in/good.mp4"])
    assert shown.stdout.splitlines()[0] == f"{bucket.address}/in/good.mp4"


def test_a_bucket_for_the_result_that_does_not_exist_stops_a_job_before_it_starts(
    config: RunConfig, archive: Path
) -> None:
    with pytest.raises(OutputError, match=r"no-such-bucket.*there is no such bucket"):
        run(replace(config, inputs=(str(archive),), out="s3://no-such-bucket/tags.parquet"))


def test_a_result_needs_a_name_in_its_bucket(bucket: Bucket) -> None:
    for check in (choose_output, verify):
        with pytest.raises(OutputError, match=f"such as {bucket.address}/tags"):
            check(f"{bucket.address}/")


def test_an_unknown_scheme_of_an_address_is_an_error_of_one_line() -> None:
    with pytest.raises(VtagError, match="the scheme what:// is unknown"):
        choose_output("what://bucket/tags.parquet")
