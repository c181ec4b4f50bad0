"""Promises about killed jobs: the next run gives the result of an undisturbed job and repeats no finished work."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from jobs.result.verify import verify
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from tests.videos import encode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "steps", "videos", "embeddings"),
    [
        ("no result", 50, 3, "without"),
        ("grown archive", 50, 2, "without"),
        ("moved video", 40, 1, "without"),
        ("failing videos", 40, 2, "without"),
        ("lost video", 15, 0, "without"),
        ("grown archive", 60, 2, "with"),
        ("moved video", 50, 1, "with"),
        ("failing videos", 50, 2, "with"),
        ("relabelled archive", 60, 2, "with"),
        ("overwritten", 60, 3, "added"),
        ("overwritten", 50, 3, "dropped"),
    ],
)
@pytest.mark.parametrize("out", ["tags.parquet", "result"])
def test_a_job_killed_at_any_step_of_commit_or_publication_gives_the_same_result_when_run_again(
    out: str, start: str, steps: int, videos: int, embeddings: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.jobs.tagging.killed", str(tmp_path / "work"), out, start, embeddings]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["steps"] > steps, "every commit and the publication have steps"
    assert found["videos"] == videos, "touched and moved videos are not read"


JOB = """
import sys
from pathlib import Path
import jobs.tagging.finished.committer
from jobs import RunConfig, make_plan, run_job

jobs.tagging.finished.committer.COMMIT_VIDEOS = 2
run_job(make_plan(RunConfig((sys.argv[1],), Path(sys.argv[2]), model=sys.argv[3], device="cpu", actors=1)))
"""


@pytest.mark.slow
def test_a_real_job_killed_several_times_gives_the_result_of_an_undisturbed_one(
    tmp_path: Path, model_file: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    video = encode(archive / "000.mp4", seconds=5)
    for number in range(1, 40):
        (archive / f"{number:03}.mp4").hardlink_to(video)
    out = tmp_path / "tags.parquet"
    run = tmp_path / "tags.parquet.run"
    kept = 0
    for _ in range(2):
        job = subprocess.Popen([sys.executable, "-c", JOB, str(archive), str(out), str(model_file)])
        while job.poll() is None and len(list(run.glob("part-*.videos.parquet"))) < kept + 2:
            time.sleep(0.05)
        assert job.poll() is None, "the job has to be killed before it ends"
        # Ray's agent, which does no work, may stay alive for a while.
        children = psutil.Process(job.pid).children(recursive=True)
        workers = [child for child in children if "Agent" not in child.name()]
        job.kill()
        job.wait()
        assert not out.exists()
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
        kept = len(list(run.glob("part-*.videos.parquet")))
    config = RunConfig((str(archive),), out, model=str(model_file), device="cpu", actors=1)
    plan = make_plan(config)
    assert plan.changes.unchanged >= 4
    summary = run_job(plan)
    assert (summary.videos, summary.kept) == (40, plan.changes.unchanged)
    assert verify(str(out)).problem is None
    whole = replace(config, out=tmp_path / "whole.parquet")
    run_job(make_plan(whole))
    assert pq.read_table(out).equals(pq.read_table(whole.out))


STUCK = """
import sys, time
from pathlib import Path
import jobs.tagging.run, jobs.cluster.termination
from jobs import RunConfig, make_plan, run_job
from tests.jobs.tagging import killed

killed.prepare()
jobs.cluster.termination.SIGTERM_TIMEOUT_S = 0.5

class Stuck(killed.DriverWithoutRay):
    def events(self, work, videos, *_, timeout_s):
        yield killed.rows_of(0, videos[0])
        time.sleep(600)

    def __exit__(self, *_):
        time.sleep(600)

jobs.tagging.run.RayDriver = Stuck
run_job(make_plan(RunConfig((sys.argv[1],), Path(sys.argv[2]))))
"""


def test_a_job_that_hangs_after_sigterm_is_killed_and_keeps_finished_videos(tmp_path: Path) -> None:
    archive = tmp_path / "videos"
    archive.mkdir()
    for name in ("a", "b"):
        (archive / f"{name}.mp4").write_text(name)
    out = tmp_path / "tags.parquet"
    job = subprocess.Popen([sys.executable, "-c", STUCK, str(archive), str(out)])
    while job.poll() is None and not list((tmp_path / "tags.parquet.run").glob("part-*.videos.parquet")):
        time.sleep(0.05)
    job.terminate()
    assert job.wait() == 128 + signal.SIGTERM
    assert make_plan(RunConfig((str(archive),), out)).changes.unchanged == 1
