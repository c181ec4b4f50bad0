"""The pages: every command and option stands on one, links lead somewhere, and contents are complete."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from jobs.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page for folder in ("jobs", "training", "tagger", "tests", "examples") for page in (ROOT / folder).rglob("*.md")
)
COMMANDS_PAGE = ROOT / "jobs/cli/README.md"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTION = re.compile(r"`(--?[a-z0-9][a-z-]*)")


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and text of each heading."""
    return [(len(hashes), text) for hashes, text in re.findall(r"^(#+) (.*)$", without_code(page), re.MULTILINE)]


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def section(page: Path, heading: str) -> str:
    return page.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def options(command: click.Command) -> set[str]:
    return {name for param in command.params if isinstance(param, click.Option) for name in param.opts}


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        yield name, command


COMMON = set(OPTION.findall(section(COMMANDS_PAGE, "Options of every command")))


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=list(COMMANDS))
def test_every_option_of_a_command_is_on_the_page_and_no_other(name: str, command: click.Command) -> None:
    table = "\n".join(
        line.split(" | ")[0] for line in section(COMMANDS_PAGE, f"vtag {name}").splitlines() if "|" in line
    )
    assert set(OPTION.findall(table)) | COMMON == options(command) | COMMON


def test_the_options_of_every_command_belong_to_every_command() -> None:
    assert {"--help", "-h", "--version", "--verbose"} == COMMON
    assert all("--verbose" in options(command) for _, command in commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_on_the_page(name: str) -> None:
    (example, *_) = re.findall(r"```bash\n(.*?)```", section(COMMANDS_PAGE, f"vtag {name}"), re.DOTALL)
    assert f"vtag {name}" in example


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=relative)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(without_code(page)):
        if link.startswith("https://"):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if fragment:
            assert fragment in {anchor(text) for _, text in headings(target)}, link


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=relative)
def test_the_contents_of_a_page_list_its_sections(page: Path) -> None:
    sections = [anchor(text) for level, text in headings(page) if level == 2]
    contents = [link[1:] for link in LINK.findall(without_code(page).split("\n## ")[0]) if link.startswith("#")]
    if len(sections) > 2:
        assert contents == sections
