"""``vtag events``: neighbouring segments of one label, merged."""

import click

from jobs.cli.command.answer_options import AnswerForm, answer_options
from jobs.cli.command.options import COUNT, examples, seconds_option, verbose_option
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


def _odd(ctx: click.Context, param: click.Parameter, value: int) -> int:
    if value % 2 == 0:
        raise click.BadParameter(f"{value} is even; give an odd number, for as many windows before as after.")
    return value


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
@click.option("--label", "wanted", metavar="LABEL", multiple=True, help="Only events of this label; can be repeated.")
@click.option(
    "--smooth",
    metavar="N",
    type=COUNT,
    default=1,
    show_default=True,
    callback=_odd,
    help="Average the probabilities of each label over N neighbouring windows, an odd number.",
)
@click.option(
    "--min-confidence",
    metavar="X|FILE.csv",
    multiple=True,
    help="Leave out segments with a lower confidence. A CSV file with the columns label and min_confidence gives "
    "limits for some labels; can be repeated, for a number and a file.",
)
@seconds_option("--min-duration", "Leave out shorter events.")
@seconds_option("--max-gap", "Merge events of one label with a gap of at most SECONDS between them.")
@click.option("--no-background", is_flag=True, help="Leave out events of the label background.")
@answer_options
@verbose_option
def events(
    tags: str,
    wanted: tuple[str, ...],
    smooth: int,
    min_confidence: tuple[str, ...],
    min_duration: float,
    max_gap: float,
    no_background: bool,
    form: AnswerForm,
    verbose: bool,
) -> None:
    """Merge neighbouring segments of one label into events, with the mean and the highest confidence of each.

    TAGS is a result of `vtag run`: a file, a folder, or an address. Where windows overlap, they vote: the label of a
    moment is the one with the highest mean probability in the windows that cover it.
    """
    from jobs.browse.events import EVENTS_SCHEMA, Rules, find_events
    from jobs.browse.labels import find_label
    from jobs.browse.segments import read_labels
    from jobs.browse.thresholds import read_thresholds
    from jobs.cli.terminal.wording import printable

    lowest, by_label = read_thresholds(min_confidence)
    with form.answering(tags) as answer:
        labels = read_labels(answer.finished) if wanted or by_label else []
        unknown = sorted(set(by_label).difference(labels))
        if unknown:
            names = printable(", ".join(unknown))
            rule = "the labels of a file must be written as in the result"
            click.echo(f"vtag: note: {tags} has no segments of {names}; {rule}", err=True)
        rules = Rules(
            smooth=smooth,
            min_confidence=lowest,
            label_confidences=by_label,
            min_duration_s=min_duration,
            max_gap_s=max_gap,
            background=not no_background,
            only=frozenset(find_label(name, labels, tags) for name in wanted) or None,
        )
        answer.give(find_events(answer.finished, rules), EVENTS_SCHEMA, noun="event", columns=SHOWN)
