"""Compares two measurements as ratios and shows the figures that became slower.

    python -m tests.benchmarks.ratios BEFORE.json AFTER.json [--at-least R]

The files are the output of `vtag bench --json` or of `tests.benchmarks.loop --json`. Every figure that ends in
``_per_s`` is compared, and the efficiency; of several values the median. Exit status 1 when a ratio is below R.
Machines differ and are noisy: take both measurements on the same machine, close to each other in time.
"""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

NAMES = ("reader", "precision", "cores", "actors", "batch_size")
"""Fields that tell the items of a list apart."""


@click.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
@click.option("--at-least", default=0.9, show_default=True)
@click.pass_context
def main(ctx: click.Context, before: Path, after: Path, at_least: float) -> None:
    """Prints a line for each figure that both files have."""
    first, second = (dict(figures(json.loads(file.read_text()))) for file in (before, after))
    common = [name for name in first if name in second]
    if not common:
        raise click.UsageError("the files have no figure in common.")
    slower = 0
    for name in common:
        ratio = second[name] / first[name]
        slower += ratio < at_least
        print(f"{ratio:6.2f}  {first[name]:10.4g} -> {second[name]:10.4g}  {name}{'  slower' * (ratio < at_least)}")
    ctx.exit(slower > 0)


def figures(measured: Any, name: str = "", is_rate: bool = False) -> Iterator[tuple[str, float]]:
    """Yields every rate in ``measured``, with a name made of the keys that lead to it."""
    if isinstance(measured, dict):
        for key, value in measured.items():
            rate = is_rate or key.endswith("_per_s") or key == "efficiency"
            yield from figures(value, f"{name}, {key}" if name else key, rate)
    elif isinstance(measured, list) and measured and isinstance(measured[0], dict):
        for item in measured:
            which = " ".join(str(item[key]) for key in NAMES if key in item)
            yield from figures(item, f"{name} {which}")
    elif is_rate and isinstance(measured, list) and measured:
        yield name, statistics.median(measured)
    elif is_rate and isinstance(measured, int | float) and measured > 0:
        yield name, float(measured)


if __name__ == "__main__":
    main()
