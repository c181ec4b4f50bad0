"""Ctrl-C, in a separate process."""

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
import click
import jobs.cli.models

@click.command()
def work():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        {cleaning_up}

jobs.cli.models.models = work
from jobs.cli import main
main(["models"])
"""


def start(cleaning_up: str) -> subprocess.Popen[str]:
    program = PROGRAM.format(cleaning_up=cleaning_up)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def test_ctrl_c_cleans_up_and_ends_with_one_line_and_status_130() -> None:
    process = start("print('cleaned up', flush=True)")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "cleaned up\n"
    assert err.splitlines()[-1] == "vtag: interrupted"
    assert "Traceback" not in err


def test_a_second_ctrl_c_ends_at_once_without_a_traceback() -> None:
    process = start("print('cleaning up', flush=True); time.sleep(60)")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "vtag: stopped at once"
    assert "Traceback" not in err
