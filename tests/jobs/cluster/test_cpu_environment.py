"""On a CPU the threads of a process that scores sleep while they wait for each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cluster.cpu_environment import cpu_environment


@pytest.mark.parametrize("wanted", [None, "ACTIVE"])
@pytest.mark.parametrize("command", [("evaluate", "gone.safetensors"), ("compare", "gone.safetensors", "actions38")])
def test_threads_sleep_while_they_wait_unless_the_user_wants_otherwise(
    tmp_path: Path, command: tuple[str, ...], wanted: str | None
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in cpu_environment()}
    done = subprocess.run(
        [sys.executable, "-c", "from jobs.cli import main; main()", *command, str(tmp_path)],
        env=environment | {"OMP_DISPLAY_ENV": "TRUE"} | ({"OMP_WAIT_POLICY": wanted} if wanted else {}),
        capture_output=True,
        text=True,
    )
    assert "gone.safetensors does not exist" in done.stderr
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("another OpenMP than that of GNU")
    assert f"OMP_WAIT_POLICY = '{wanted or 'PASSIVE'}'" in done.stderr


def test_variables_that_the_user_has_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in cpu_environment():
        monkeypatch.delenv(name, raising=False)
    assert cpu_environment() == {"MALLOC_ARENA_MAX": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert cpu_environment() == {"MALLOC_ARENA_MAX": "2", "OMP_WAIT_POLICY": "PASSIVE"}
