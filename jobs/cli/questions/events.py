"""``vtag events``: neighbouring segments of one label, merged."""

import click

from jobs.cli.command.answer_options import AnswerForm, answer_options
from jobs.cli.command.options import examples, verbose_option
from jobs.cli.command.rule_options import RuleOptions, rule_options
from jobs.cli.terminal.answers import Column

SHOWN = (
    Column("video", "video"),
    Column("start_s", "start", "s"),
    Column("end_s", "end", "s"),
    Column("label", "label"),
    Column("confidence", "confidence"),
    Column("peak_confidence", "peak"),
    Column("segments", "segments"),
)


@click.command(
    short_help="Merge neighbouring segments of one label.",
    epilog=examples(
        "vtag events tags.parquet",
        "vtag events tags.parquet --smooth 3 --min-confidence 0.5 --max-gap 4",
        "vtag events tags.parquet --min-confidence limits.csv --csv",
        "vtag events s3://bucket/tags --no-background --out events.parquet",
    ),
)
@click.argument("tags")
@rule_options("events")
@answer_options
@verbose_option
def events(tags: str, rules: RuleOptions, form: AnswerForm, verbose: bool) -> None:
    """Merge neighbouring segments of one label into events, with the mean and the highest confidence of each.

    TAGS is a result of `vtag run`: a file, a folder, or an address. Where windows overlap, they vote: the label of a
    moment is the one with the highest mean probability in the windows that cover it.
    """
    from jobs.browse.events import EVENTS_SCHEMA, find_events

    with form.answering(tags) as answer:
        found = find_events(answer.finished, rules.rules(answer.finished))
        answer.give(found, EVENTS_SCHEMA, noun="event", columns=SHOWN)
