"""The help pages of all commands, and ``vtag --version``."""

import shlex
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


def find_command(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.name == name
    return command


def help_page(name: str) -> str:
    return CliRunner().invoke(main, [name, "--help"], prog_name="vtag", terminal_width=80).stdout


def find_examples(page: str) -> list[str]:
    """Returns the lines of the section "Examples:", which ends the page."""
    _, heading, section = page.rstrip().partition("\n\n  Examples:\n")
    assert heading, page
    return section.splitlines()


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_every_command_and_every_option_has_help(name: str | None) -> None:
    command = main if name is None else find_command(name)
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_page_ends_with_examples_of_the_command(name: str) -> None:
    examples = find_examples(help_page(name))
    assert examples
    for example in examples:
        assert example.startswith("    vtag "), example
        assert example.split()[:2] == ["vtag", name]
        assert len(example) <= 80, example


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_use_only_options_that_the_command_has(name: str) -> None:
    command = find_command(name)
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    for example in find_examples(help_page(name)):
        words = shlex.split(example)
        # The words after a pipe are another program's.
        own = words[2 : words.index("|")] if "|" in words else words[2:]
        used = {word.partition("=")[0] for word in own if word.startswith("-") and word != "-"}
        assert used <= known, example


@pytest.mark.parametrize("name", ["run", "watch", "report", "train"])
def test_the_address_of_a_cluster_is_the_same_option_everywhere(name: str) -> None:
    (option,) = [each for each in find_command(name).params if "--address" in each.opts]
    assert isinstance(option, click.Option) and option.help is not None
    assert (option.metavar, option.envvar) == ("ADDRESS", "RAY_ADDRESS")
    assert option.help.startswith("Ray cluster ")
    assert option.help.endswith("; local: this machine, even if RAY_ADDRESS is set.")


def test_all_commands_are_listed_in_the_order_in_which_they_are_needed() -> None:
    names = ["run", "watch", "demo", "verify", "compact", "events", "search", "similar", "clusters", "uncertain", "cut"]
    names += ["export", "import", "report", "view", "teach", "relabel", "probe", "models", "train", "evaluate"]
    names += ["compare", "bench"]
    assert list(COMMANDS) == names
    assert main.list_commands(click.Context(main)) == names


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "-h"],
        ["watch", "-h"],
        ["demo", "-h"],
        ["models", "-h"],
        ["probe", "-h"],
        ["bench", "-h"],
        *([name, "-h"] for name in ("events", "search", "similar", "clusters", "uncertain", "cut", "export", "import")),
        *([name, "-h"] for name in ("report", "view", "teach", "relabel")),
    ],
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


def test_the_version_lists_vtag_python_and_the_main_packages() -> None:
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
