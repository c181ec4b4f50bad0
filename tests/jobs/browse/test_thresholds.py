"""Lowest confidences, for all labels and by label."""

from pathlib import Path

import pytest

from jobs.browse.thresholds import read_thresholds
from tagger.errors import InputError


def test_a_number_counts_for_all_labels_and_a_file_for_those_in_it(tmp_path: Path) -> None:
    limits = tmp_path / "limits.csv"
    limits.write_text('label,min_confidence,note\nBiking,0.9,x\n"Swing, high",0,\n')
    assert read_thresholds(()) == (0.0, {})
    assert read_thresholds(("0.5",)) == (0.5, {})
    assert read_thresholds((str(limits), "0.5")) == (0.5, {"Biking": 0.9, "Swing, high": 0.0})


def test_a_file_of_a_spreadsheet_with_decimal_commas_is_read(tmp_path: Path) -> None:
    limits = tmp_path / "limits.csv"
    limits.write_text("Label;Min_Confidence\nBiking;0,9\n", "utf-16")
    assert read_thresholds((str(limits),)) == (0.0, {"Biking": 0.9})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,confidence\nBiking,0.5\n", "no column 'min_confidence'; its columns are label, confidence"),
        ("", "no column 'label'; its columns are none"),
        ("label,min_confidence\nBiking,high\n", "line 2 is not a label and a number between 0 and 1: 'Biking', 'high'"),
        ("label,min_confidence\nBiking,70\n", "line 2 is not a label and a number between 0 and 1: 'Biking', '70'"),
        ("label,min_confidence\nBiking,nan\n", "line 2 is not a label and a number between 0 and 1: 'Biking', 'nan'"),
        ("label,min_confidence\n,0.5\n", "line 2 is not a label and a number between 0 and 1: '', '0.5'"),
        ("label,min_confidence\na,0.5\na,0.6\n", "line 3 repeats the label 'a'"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    limits = tmp_path / "limits.csv"
    limits.write_text(text)
    with pytest.raises(InputError) as error:
        read_thresholds((str(limits),))
    assert message in str(error.value) and str(limits) in str(error.value)


@pytest.mark.parametrize("value", ["1.5", "-0.1", "nan"])
def test_a_number_that_is_no_confidence_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="is no confidence"):
        read_thresholds((value,))


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"limits\.csv is neither a number nor a CSV file with the columns"):
        read_thresholds(("limits.csv",))
