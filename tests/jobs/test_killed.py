"""Promises about jobs that are killed: run again, they give what an undisturbed job gives, and do nothing twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("out", "begins"), [("tags.parquet", "anew"), ("tags.parquet", "grows"), ("result", "grows")])
def test_a_job_killed_at_any_step_of_its_commits_and_publication_goes_on_to_the_same_result(
    out: str, begins: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.jobs.killed", str(tmp_path / "work"), out, begins]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["steps"] > 60, "every commit and the publication have steps"
    assert found["videos"] == (3 if begins == "anew" else 2), "what is only touched is not read"
