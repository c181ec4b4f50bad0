"""The printed report about a data set and its split, before a training starts."""

from collections.abc import Collection, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.cli.terminal.wording import amount, count, printable
from training.data.data_set import PARTS, DataSet, LabelledClip, Part
from training.data.folds import Fold
from training.data.inventory import Inventory
from training.data.part_folders import part_named
from training.data.splits import Split
from training.data.training_plan import TrainingPlan

GROUPED_BY = {
    "name": "take their group from the file name (v_…_gNN_cNN)",
    "folder": "take their group from the folder inside the class folder",
    "manifest": "take their group from the manifest",
    "file": "have no group: each file is its own group, so clips of one scene may be on both sides of the split",
    "background": "are background, without a label: each video is a group of its own",
}

LEAK = (
    "A split at random leaks: clips of one scene, with the same people, are in training and in test, so its scores say "
    "little about new footage. It is scored next to a split by group, which makes the model file."
)

EXAMPLES_SHOWN = 3
"""Number of sets of identical files that the report names."""


def print_data_set(console: Console, plan: TrainingPlan) -> None:
    """Prints a few lines: the number of clips, their groups and their split."""
    for line in _lines(plan):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_inventory(console: Console, plan: TrainingPlan, inventory: Inventory) -> None:
    """Prints the report of a dry run: the lines of ``print_data_set``, unreadable clips, and a table of the classes."""
    print_data_set(console, plan)
    for problem in dict.fromkeys(inventory.unreadable.values()):
        console.print(f"Skipped: {printable(problem)}", highlight=False, markup=False, soft_wrap=True)
    if inventory.unreadable:
        console.print(f"{count(len(inventory.unreadable), 'clip')} cannot be read.", highlight=False)
    console.print(_classes(plan, inventory))
    if plan.folds:
        console.print(_folds(plan.folds))


def _lines(plan: TrainingPlan) -> list[str]:
    data = plan.data
    lines = [
        f"{count(len(data.clips), 'clip')} of {len(data.labels)} classes, in {count(_groups(data.clips), 'group')}."
    ]
    for source, clips in data.grouped_by.items():
        who = "All" if clips == len(data.clips) else count(clips, "clip")
        lines.append(f"{who} {GROUPED_BY[source]}.")
    if data.unlabelled:
        left_out = f"{count(len(data.unlabelled), 'video')} left out: in no class folder"
        lines.append(f"{left_out}, such as {_short(data, data.unlabelled[0])}.")
    if data.identical:
        lines.append(_identical(data, stays=not plan.given_split))
    if data.given_split and (plan.folds or plan.split) and plan.given_split != data.given_split:
        lines.append(f"Not used: the split of {data.given_split}. All clips are split anew.")
    if plan.folds:
        return [*lines, f"Leave one group out: {count(len(plan.folds), 'fold')}, a model for each."]
    split = plan.split
    if split is None:
        return lines
    if plan.leaking:
        lines += [LEAK, f"Split at random: {_sizes(plan.leaking)}."]
    lines.append(f"Split {f'as in {plan.given_split}' if plan.given_split else 'by group'}: {_sizes(split)}.")
    if plan.given_split:
        lines += _about_given(data, split)
    if plan.absent:
        lines.append(f"{count(plan.absent, 'listed clip')} not found in {data.root}.")
    if split.unlisted:
        lines.append(f"{count(len(split.unlisted), 'clip')} not listed in {plan.given_split}, and left out.")
    if split.dropped_copies:
        copies = count(len(split.dropped_copies), "clip")
        lines.append(f"{copies} left out: the same file is also in validation or test.")
    return lines


def _about_given(data: DataSet, split: Split) -> list[str]:
    """Returns what a person should know about a split that was not drawn."""
    lines = []
    if split.drawn:
        lines.append(f"No clips for {' and '.join(split.drawn)} are given: groups for training were drawn instead.")
    judged: tuple[Part, ...] = ("val", "test")
    for part in judged:
        missing = [label for label in data.labels if label not in split.groups(part)]
        if missing:
            shown = ", ".join(missing[:EXAMPLES_SHOWN]) + (", …" if len(missing) > EXAMPLES_SHOWN else "")
            lines.append(f"No clips for {part} of {printable(shown)}.")
    tested = [folder for folder in data.part_folders if part_named(folder) == "test"]
    if tested and "test" not in split.drawn:
        lines.append(f"Clips in {' and '.join(tested)} are never trained on.")
    return lines


def _identical(data: DataSet, *, stays: bool) -> str:
    names = [" = ".join(_short(data, path) for path in paths) for paths in data.identical]
    shown = "; ".join(names[:EXAMPLES_SHOWN]) + ("; …" if len(names) > EXAMPLES_SHOWN else "")
    files = sum(map(len, data.identical))
    together = ", so these groups stay together" if stays else ""
    return f"{files} files are byte-identical to a file of another group{together}: {shown}."


def _short(data: DataSet, path: Path) -> str:
    folder = data.root if data.root.is_dir() else data.root.parent
    return printable(str(path).removeprefix(f"{folder}/"))


def _sizes(split: Split) -> str:
    return f"{len(split.train)} training, {len(split.val)} validation, {len(split.test)} test clips"


def _classes(plan: TrainingPlan, inventory: Inventory) -> Table:
    """Returns a table with a row for each class: groups, clips, length of video, and clips in each part."""
    data, split = plan.data, plan.split
    bad = ("unreadable",) if inventory.unreadable else ()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="In brackets: groups." if split else None)
    table.caption_justify = "left"
    # Only this column wraps, so that numbers stay on one line.
    table.add_column("class", overflow="fold", min_width=min(18, max(map(len, data.labels))))
    for heading in ("groups", "clips", "video", *bad, *(PARTS if split else ())):
        table.add_column(heading, justify="right", no_wrap=True)

    def add_row(name: str, clips: Sequence[LabelledClip]) -> None:
        unreadable = [str(sum(clip in inventory.unreadable for clip in clips))] if bad else []
        parts = [_clips_and_groups(clips, getattr(split, part)) for part in PARTS] if split else []
        video = amount(inventory.seconds_of(clips))
        table.add_row(Text(printable(name)), f"{_groups(clips):,}", f"{len(clips):,}", video, *unreadable, *parts)

    for label in data.labels:
        add_row(label, [clip for clip in data.clips if clip.label == label])
    table.add_section()
    add_row("all", data.clips)
    return table


def _clips_and_groups(clips: Sequence[LabelledClip], part: Sequence[LabelledClip]) -> str:
    inside = set(clips).intersection(part)
    return f"{len(inside):,} ({_groups(inside):,})"


def _groups(clips: Collection[LabelledClip]) -> int:
    return len({clip.key for clip in clips})


def _folds(folds: Sequence[Fold]) -> Table:
    table = Table(title="Folds", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("left out", overflow="fold")
    for heading in ("train", "val", "test"):
        table.add_column(heading, justify="right")
    for fold in folds:
        table.add_row(Text(fold.name), *(str(len(getattr(fold.split, part))) for part in PARTS))
    return table
