"""Lowest confidences: one number for all labels, and a CSV file for labels with another one."""

from collections.abc import Sequence
from pathlib import Path

from jobs.browse.csv_rows import read_rows
from tagger.errors import InputError, one_line

COLUMNS = ("label", "min_confidence")


def read_thresholds(values: Sequence[str]) -> tuple[float, dict[str, float]]:
    """Returns the lowest confidence, and those of the labels that have another.

    Each of ``values`` is a number between 0 and 1, or a CSV file with the columns ``label`` and ``min_confidence``.
    Raises InputError, with the line of the file, for anything else.
    """
    lowest, by_label = 0.0, {}
    for value in values:
        number = _number(value)
        if number is None:
            by_label.update(_read(Path(value)))
        elif 0 <= number <= 1:
            lowest = number
        else:
            raise InputError(f"{value} is no confidence; a confidence is a number between 0 and 1")
    return lowest, by_label


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _read(path: Path) -> dict[str, float]:
    if not path.is_file():
        raise InputError(
            f"{one_line(str(path))} is neither a number nor a CSV file with the columns {' and '.join(COLUMNS)}"
        )
    found: dict[str, float] = {}
    for where, row in read_rows(path, COLUMNS, COLUMNS[1:]):
        label, text = row.get("label", ""), row.get("min_confidence", "")
        number = _number(text)
        if not label or number is None or not 0 <= number <= 1:
            raise InputError(
                f"{where} is not a label and a number between 0 and 1: {one_line(label)!r}, {one_line(text)!r}"
            )
        if label in found:
            raise InputError(f"{where} repeats the label {one_line(label)!r}")
        found[label] = number
    return found
