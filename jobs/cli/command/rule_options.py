"""The options by which segments become events, of ``vtag events`` and ``vtag export``."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from jobs.cli.command.options import seconds_option, smooth_option

if TYPE_CHECKING:
    from jobs.browse.events import Rules
    from jobs.browse.segments import FinishedResult

Command = TypeVar("Command", bound=Callable[..., Any])

MERGING = ("smooth", "min_duration", "max_gap")
"""The options that say nothing about single segments."""


@dataclass(frozen=True)
class RuleOptions:
    """The rules as the user typed them."""

    labels: Sequence[str]
    smooth: int
    min_confidence: Sequence[str]
    min_duration_s: float
    max_gap_s: float
    no_background: bool

    def rules(self, finished: "FinishedResult") -> "Rules":
        """Returns the rules for a result. Labels of a file that it does not have get a note. Raises InputError."""
        from jobs.browse.events import Rules
        from jobs.browse.labels import find_label
        from jobs.browse.segments import read_labels
        from jobs.browse.thresholds import read_thresholds
        from jobs.cli.terminal.wording import printable

        lowest, by_label = read_thresholds(self.min_confidence)
        labels = read_labels(finished) if self.labels or by_label else []
        unknown = sorted(set(by_label).difference(labels))
        if unknown:
            names = printable(", ".join(unknown))
            rule = "the labels of a file must be written as in the result"
            click.echo(f"vtag: note: {finished.path} has no segments of {names}; {rule}", err=True)
        return Rules(
            smooth=self.smooth,
            min_confidence=lowest,
            label_confidences=by_label,
            min_duration_s=self.min_duration_s,
            max_gap_s=self.max_gap_s,
            background=not self.no_background,
            only=frozenset(find_label(name, labels, finished.path) for name in self.labels) or None,
        )


def rule_options(noun: str) -> Callable[[Command], Command]:
    """The options, passed to the command together as ``rules``, a RuleOptions. ``noun`` is what they choose."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_rules(
            *args: Any,
            labels: tuple[str, ...],
            smooth: int,
            min_confidence: tuple[str, ...],
            min_duration: float,
            max_gap: float,
            no_background: bool,
            **options: Any,
        ) -> Any:
            rules = RuleOptions(labels, smooth, min_confidence, min_duration, max_gap, no_background)
            return command(*args, rules=rules, **options)

        decorated: Any = with_rules
        for option in reversed(_options(noun)):
            decorated = option(decorated)
        return cast(Command, decorated)

    return decorate


def _options(noun: str) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--label", "labels", metavar="LABEL", multiple=True, help=f"Only {noun} of this label; can be repeated."
        ),
        smooth_option,
        click.option(
            "--min-confidence",
            metavar="X|FILE.csv",
            multiple=True,
            help="Leave out segments with a lower confidence. A CSV file with the columns label and min_confidence "
            "gives limits for some labels; can be repeated, for a number and a file.",
        ),
        seconds_option("--min-duration", "Leave out shorter events."),
        seconds_option("--max-gap", "Merge events of one label with a gap of at most SECONDS between them."),
        click.option("--no-background", is_flag=True, help=f"Leave out {noun} of the label background."),
    ]
