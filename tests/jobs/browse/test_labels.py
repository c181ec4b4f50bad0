"""Finding the label that a person means."""

import pytest

from jobs.browse.labels import find_label
from tagger.errors import InputError

LABELS = ["Biking", "BikePolo", "HighJump", "IceDancing", "ice climbing", "riding a bike"]


@pytest.mark.parametrize(
    ("wanted", "label"),
    [
        ("Biking", "Biking"),
        ("biking", "Biking"),
        ("BIKI", "Biking"),
        ("high jump", "HighJump"),
        ("high-jump", "HighJump"),
        ("h", "HighJump"),
        ("iceclimbing", "ice climbing"),
        ("Riding", "riding a bike"),
    ],
)
def test_a_label_is_found_in_any_case_and_by_its_beginning(wanted: str, label: str) -> None:
    assert find_label(wanted, LABELS, "t.parquet") == label


def test_a_whole_label_is_taken_before_longer_ones() -> None:
    assert find_label("run", ["running", "run", "RUN"], "t") == "run"
    assert find_label("Run", ["running", "run"], "t") == "run"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("bik", "2 labels of t.parquet begin with 'bik': Biking, BikePolo; give more of one"),
        ("Bikking", "t.parquet has no label 'Bikking'; did you mean Biking?"),
        ("dancing", "t.parquet has no label 'dancing'; did you mean IceDancing?"),
        ("zzz", f"t.parquet has no label 'zzz'; its 6 labels are {', '.join(LABELS)}"),
        ("", f"t.parquet has no label ''; its 6 labels are {', '.join(LABELS)}"),
        ("a\nb", f"t.parquet has no label 'a b'; its 6 labels are {', '.join(LABELS)}"),
    ],
)
def test_an_unknown_label_is_refused_with_the_most_similar_ones(wanted: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        find_label(wanted, LABELS, "t.parquet")
    assert str(error.value) == message


def test_of_many_labels_the_first_are_listed() -> None:
    with pytest.raises(InputError, match=r"its 400 labels are 000x, .*, 011x, …$"):
        find_label("zzz", [f"{number:03}x" for number in range(400)], "t")
