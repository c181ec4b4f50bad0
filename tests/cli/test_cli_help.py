"""What ``vtag --help`` promises."""

import subprocess
import sys

import click
import pytest

from jobs.cli import COMMANDS, main

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
    [["--help"], ["--version"], ["run", "-h"], ["demo", "-h"], ["models", "-h"], ["probe", "-h"], ["bench", "-h"]],
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
