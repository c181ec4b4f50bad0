"""What ``vtag --help`` promises."""

import subprocess
import sys
from importlib.metadata import version

import click
import pytest

import tagger
from jobs.cli import COMMANDS, main
from jobs.cli.command import versions
from tests.click_runner import CliRunner

HEAVY = ("torch", "ray", "decord", "av", "pyarrow", "sklearn", "numpy", "rich")


def commands() -> list[click.Command]:
    context = click.Context(main)
    found = [main.get_command(context, name) for name in main.list_commands(context)]
    return [main, *(command for command in found if command is not None)]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_every_command_and_every_option_has_help(command: click.Command) -> None:
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.opts


def test_all_commands_are_listed_in_the_order_in_which_they_are_needed() -> None:
    names = ["run", "demo", "verify", "compact", "probe", "models", "train", "evaluate", "compare", "bench"]
    assert list(COMMANDS) == names
    assert [command.name for command in commands()[1:]] == list(COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "-h"], ["demo", "-h"], ["models", "-h"], ["probe", "-h"], ["bench", "-h"]],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = f"""
import sys
from jobs.cli import main
try:
    main({arguments!r})
except SystemExit as ending:
    assert ending.code == 0, ending.code
print("HEAVY:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY: []"


def test_the_version_names_what_vtag_stands_on() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"vtag {tagger.__version__}"
    assert lines[1].startswith(f"Python {sys.version_info.major}.{sys.version_info.minor}.")
    names = [line.split()[0] for line in lines]
    assert names == ["vtag", "Python", "torch", "Ray", "PyAV", "decord"]
    assert lines[2].startswith(f"torch {version('torch')} (")
    assert lines[3] == f"Ray {version('ray')}" and lines[4] == f"PyAV {version('av')}"


def test_the_version_says_what_is_missing_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(versions.PACKAGES, "decord", "no-such-package")
    monkeypatch.setitem(sys.modules, "torch", None)
    lines = CliRunner().invoke(main, ["--version"]).stdout.splitlines()
    assert "(does not work: " in lines[2]
    assert lines[-1] == "decord is not installed"
