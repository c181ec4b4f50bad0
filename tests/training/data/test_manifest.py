"""Manifests are read, and invalid ones are refused."""

from pathlib import Path

import pandas as pd
import pytest

from tagger import DataSetError
from training import read_data_set
from training.data.data_set import LabelledClip

ROWS = """\
path,label,group,split,start_s,end_s,note
a.mp4,run,garden,train,,,a whole file
a.mp4,walk,garden,train,2.5,4,
sub/b.mp4,walk,street,test,1,,to its end
"""


def manifest(folder: Path, text: str) -> Path:
    path = folder / "clips.csv"
    path.write_text(text, "utf-8")
    return path


def test_rows_are_clips_with_paths_relative_to_the_manifest(tmp_path: Path) -> None:
    assert read_data_set(manifest(tmp_path, ROWS)).clips == (
        LabelledClip(tmp_path / "a.mp4", "run", "garden", "manifest", 0, None, "train"),
        LabelledClip(tmp_path / "a.mp4", "walk", "garden", "manifest", 2.5, 4, "train"),
        LabelledClip(tmp_path / "sub/b.mp4", "walk", "street", "manifest", 1, None, "test"),
    )


def test_an_absolute_path_is_taken_as_it_is_and_a_file_is_its_own_group(tmp_path: Path) -> None:
    data = read_data_set(manifest(tmp_path, "label,path\nrun,/videos/a.mp4\nwalk,b.mp4\n"))
    assert [clip.path for clip in data.clips] == [Path("/videos/a.mp4"), tmp_path / "b.mp4"]
    assert data.grouped_by == {"file": 2} and not data.has_parts


def test_parquet_gives_the_same_clips_as_csv_with_missing_values_as_null_or_nan(tmp_path: Path) -> None:
    csv = manifest(tmp_path, ROWS)
    frame = pd.read_csv(csv)
    frame.to_parquet(tmp_path / "clips.parquet")
    assert read_data_set(tmp_path / "clips.parquet").clips == read_data_set(csv).clips


def test_group_numbers_that_pandas_made_floats_are_the_same_groups(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["a.mp4", "b.mp4"], "label": ["x", "y"], "group": [7.0, float("nan")]})
    frame.to_parquet(tmp_path / "clips.parquet")
    assert [clip.group for clip in read_data_set(tmp_path / "clips.parquet").clips] == ["7", "b.mp4"]


def test_a_byte_order_mark_capitals_and_empty_lines_are_accepted(tmp_path: Path) -> None:
    assert len(read_data_set(manifest(tmp_path, "\ufeffPath, Label\na.mp4,x\n\n,\nb.mp4,y\n")).clips) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'path'; its columns are none"),
        ("path,labels\na.mp4,x\n", "has no column 'label'; its columns are path, labels"),
        ("path,label,label\n", "the column 'label' twice"),
        ("path,label\n", "has no rows"),
        ("path,label\na.mp4,x\nb.mp4,x\n", "one class only"),
        ("path,label\na.mp4,x\nb.mp4,\n", "line 3 has no label"),
        ("path,label\na.mp4,x,y\n", "line 2 has 3 values for 2 columns"),
        ("path,label,split\na.mp4,x,training\n", "line 2: the split 'training' is none of train, val and test"),
        ("path,label,split\na.mp4,x,train\nb.mp4,y,\n", "line 3 has no split, but others have"),
        ("path,label,start_s,end_s\na.mp4,x,5,3\n", "line 2 ends at 3 s, which is not after its start at 5 s"),
        ("path,label,end_s\na.mp4,x,0\n", "line 2 ends at 0 s"),
        ("path,label,start_s\na.mp4,x,1:30\n", "line 2: start_s is '1:30'; it is a number of seconds"),
        ("path,label,start_s\na.mp4,x,-1\n", "line 2: start_s is '-1'"),
        ("path,label,start_s\na.mp4,x,nan\n", "line 2: start_s is 'nan'"),
        ("path,label\na.mp4,x\nb.mp4,y\na.mp4,x\n", "line 4 repeats line 2"),
        ('path,label\n"a.mp4,x\n', "line 2 is no CSV: unexpected end of data"),
        ("path,label,split\na.mp4,x,train\na.mp4,y,test\n", "line 3 is for test, but the file .*a.mp4 for train"),
        (
            "path,label,group,split\na.mp4,x,g,train\nb.mp4,y,g,val\n",
            "line 3 is for val, but the group g for train in an earlier row",
        ),
    ],
)
def test_an_invalid_manifest_is_refused_in_one_line_with_the_row(tmp_path: Path, text: str, message: str) -> None:
    path = manifest(tmp_path, text)
    with pytest.raises(DataSetError, match=message) as error:
        read_data_set(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_rows_of_parquet_are_counted_from_one(tmp_path: Path) -> None:
    pd.DataFrame({"path": ["a", "b"], "label": ["x", None]}).to_parquet(tmp_path / "clips.parquet")
    with pytest.raises(DataSetError, match=r"clips.parquet, row 2 has no label"):
        read_data_set(tmp_path / "clips.parquet")


@pytest.mark.parametrize("name", ["clips.csv", "clips.parquet"])
def test_a_file_that_is_not_a_table_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(DataSetError, match=r"is not UTF-8|cannot be read as Parquet"):
        read_data_set(tmp_path / name)
