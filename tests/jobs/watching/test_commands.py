"""Commands that are run when a label begins."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.watching import commands as commands_module
from jobs.watching.commands import Commands, Failed
from jobs.watching.smoother import Moment
from tagger import InputError
from tests.jobs.watching.made_up import BEGUN_AT

BIKING = Moment(3, 3.0, 4.0, "Biking", 0.75, BEGUN_AT)


def finish(commands: Commands) -> Failed | None:
    """Waits for the commands that run."""
    for _, process in commands._running:
        process.wait(30)
    return commands.failures()


def test_a_command_finds_the_moment_in_its_environment(tmp_path: Path) -> None:
    seen = "{name: value for name, value in os.environ.items() if name.startswith('VTAG_')}"
    program = f"import json, os, pathlib; pathlib.Path(os.environ['OUT']).write_text(json.dumps({seen}))"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUT", str(tmp_path / "seen"))
        commands = Commands(f'{sys.executable} -c "{program}"', ["Biking"], "rtsp://camera/1")
        assert commands.begin(BIKING) is None
    assert finish(commands) is None
    assert json.loads((tmp_path / "seen").read_text()) == {
        "VTAG_SOURCE": "rtsp://camera/1",
        "VTAG_LABEL": "Biking",
        "VTAG_CONFIDENCE": "0.7500",
        "VTAG_START_S": "3.000",
        "VTAG_TIME": "2026-11-30T12:00:00.000+00:00",
    }


def test_other_labels_run_nothing() -> None:
    commands = Commands("false", ["Biking"], "0")
    assert commands.begin(Moment(0, 0.0, 1.0, "Swing", 0.9, BEGUN_AT)) is None
    assert commands.begin(Moment(0, 0.0, 1.0, None, 0.1, BEGUN_AT)) is None
    assert commands.started == 0


def test_no_shell_reads_the_command_unless_it_is_asked_for(tmp_path: Path) -> None:
    line = f"touch {tmp_path}/a; touch {tmp_path}/b"
    for in_shell, expected in ((False, ["a;", "b", "touch"]), (True, ["a", "b"])):
        commands = Commands(line, ["Biking"], "0", in_shell=in_shell)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            commands.begin(BIKING)
            finish(commands)
        assert sorted(path.name for path in tmp_path.iterdir()) == expected
        for path in tmp_path.iterdir():
            path.unlink()


def test_commands_that_hang_are_not_waited_for_and_do_not_pile_up() -> None:
    commands = Commands("sleep 600", ["Biking"], "0")
    try:
        failures = [commands.begin(BIKING) for _ in range(commands_module.MOST + 2)]
        left_out = Failed("the command for Biking was left out: 4 commands are still running")
        assert failures == [None] * commands_module.MOST + [left_out] * 2
    finally:
        for _, process in commands._running:
            process.kill()
        finish(commands)


def test_each_command_that_fails_is_told_once_with_its_label() -> None:
    commands = Commands("false", ["Biking", "Swing"], "0")
    assert commands.begin(BIKING) is None
    assert commands.begin(replace(BIKING, label="Swing")) is None
    told = "the command for Biking ended with exit status 1; the command for Swing ended with exit status 1"
    assert (finish(commands), commands.failures()) == (Failed(told), None)


def test_a_command_that_is_left_out_hides_no_failure() -> None:
    commands = Commands('test "$VTAG_LABEL" = Biking && exec sleep 600', ["Biking", "Swing"], "0", in_shell=True)
    try:
        assert commands.begin(replace(BIKING, label="Swing")) is None
        commands._running[0][1].wait(30)
        for _ in range(commands_module.MOST):
            assert commands.begin(BIKING) is None
        assert commands.begin(BIKING) is not None
        assert commands.failures() == Failed("the command for Swing ended with exit status 1")
    finally:
        for _, process in commands._running:
            process.kill()
        finish(commands)


def test_a_command_that_is_not_there_is_told() -> None:
    failed = Commands("/no/such/command", ["Biking"], "0").begin(BIKING)
    assert failed == Failed("the command for Biking cannot be run: no such file or directory")


@pytest.mark.parametrize("command", ["", "  ", "echo 'a"])
def test_what_is_no_command_is_told_before_anything_is_watched(command: str) -> None:
    with pytest.raises(InputError, match="--exec"):
        Commands(command, ["Biking"], "0")
