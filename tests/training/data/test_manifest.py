"""Manifests are read, and invalid ones are refused."""

import errno
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli import main
from tagger import DataSetError
from tests.click_runner import CliRunner
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
    assert data.grouped_by == {"file": 2} and data.given_split is None


def test_a_list_of_marks_gives_the_stretches_that_show_a_label(tmp_path: Path) -> None:
    text = (
        "video,start_s,end_s,label\n/v/a.mp4,0,2.133,Swing\n/v/a.mp4,4,6,not Swing\n/v/b.mp4,1,2,\n/v/b.mp4,3,4,Run\n"
    )
    assert read_data_set(manifest(tmp_path, text)).clips == (
        LabelledClip(Path("/v/a.mp4"), "Swing", "/v/a.mp4", "file", 0, 2.133),
        LabelledClip(Path("/v/b.mp4"), "Run", "/v/b.mp4", "file", 3, 4),
    )


def test_marks_of_vtag_export_count_from_the_first_frame(tmp_path: Path) -> None:
    rows = "/v/a.mp4;1,5;3,5;Swing;0,5\n/v/b.mp4;1;2;Run;\n"
    clips = read_data_set(manifest(tmp_path, f"video;start_s;end_s;label;stream_start_s\n{rows}")).clips
    assert [(clip.start_s, clip.end_s) for clip in clips] == [(1.0, 3.0), (1.0, 2.0)]


def test_a_manifest_with_paths_may_have_labels_that_begin_with_not(tmp_path: Path) -> None:
    data = read_data_set(manifest(tmp_path, "video,path,label\nx,a.mp4,not Swing\ny,b.mp4,Swing\n"))
    assert [clip.label for clip in data.clips] == ["not Swing", "Swing"]


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
        ("path,label,split\na.mp4,x,holdout\n", "line 2: the split 'holdout' is none of train, val and test"),
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
    with pytest.raises(DataSetError, match=r"is neither UTF-8 nor UTF-16|cannot be read as Parquet"):
        read_data_set(tmp_path / name)


def test_a_parquet_file_with_text_that_is_not_utf_8_is_refused_in_one_line(tmp_path: Path) -> None:
    latin = pa.array([b"caf\xe9.mp4", b"b.mp4"]).view(pa.string())
    pq.write_table(pa.table({"path": latin, "label": ["x", "y"]}), tmp_path / "clips.parquet")
    with pytest.raises(DataSetError, match="cannot be read as Parquet"):
        read_data_set(tmp_path / "clips.parquet")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_is_read_in_every_form_in_which_spreadsheets_write_it(
    tmp_path: Path, delimiter: str, encoding: str, line_end: str
) -> None:
    quoted = f'"b{delimiter} ""2"".mp4"'
    lines = ["PATH, Label ,Note", "", "vidéos/a.mp4,лето,", f"{quoted},日本語,", ",,", "", ""]
    text = line_end.join(
        line if quoted in line and delimiter == "," else line.replace(",", delimiter) for line in lines
    )
    for first_lines in ("", f"sep={delimiter}{line_end}"):
        path = tmp_path / "clips.csv"
        path.write_bytes((first_lines + text).encode(encoding))
        assert [(clip.path, clip.label) for clip in read_data_set(path).clips] == [
            (tmp_path / "vidéos/a.mp4", "лето"),
            (tmp_path / f'b{delimiter} "2".mp4', "日本語"),
        ]


def test_parts_may_be_named_as_folders_are(tmp_path: Path) -> None:
    data = read_data_set(manifest(tmp_path, "path,label,split\na.mp4,x,Training\nb.mp4,y,valid\nc.mp4,y,TEST\n"))
    assert [clip.part for clip in data.clips] == ["train", "val", "test"]


def test_a_line_in_a_message_is_the_line_that_an_editor_shows_below_a_line_for_excel(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="line 4 has no label"):
        read_data_set(manifest(tmp_path, "sep=;\npath;label\na.mp4;x\nb.mp4;\n"))


def test_seconds_have_a_decimal_comma_only_where_semicolons_separate_columns(tmp_path: Path) -> None:
    semicolons = manifest(tmp_path, "path;label;start_s;end_s\na.mp4;x;2,5;4.5\nb.mp4;y;;\n")
    assert [(clip.start_s, clip.end_s) for clip in read_data_set(semicolons).clips] == [(2.5, 4.5), (0, None)]
    commas = manifest(tmp_path, 'path,label,start_s\na.mp4,x,"1,234"\nb.mp4,y,\n')
    with pytest.raises(DataSetError, match="line 2: start_s is '1,234'; it is a number of seconds"):
        read_data_set(commas)


def test_a_relative_path_of_windows_is_one_below_the_manifest(tmp_path: Path) -> None:
    data = read_data_set(manifest(tmp_path, "path,label\nvideos\\walk\\a.avi,walk\n.\\b.avi,run\nvideos/c.avi,run\n"))
    assert [clip.path for clip in data.clips] == [
        tmp_path / name for name in ("videos/walk/a.avi", "b.avi", "videos/c.avi")
    ]
    assert [clip.group for clip in data.clips] == ["videos/walk/a.avi", "b.avi", "videos/c.avi"]


def test_a_file_whose_name_has_backslashes_is_found(tmp_path: Path) -> None:
    (tmp_path / "a\\b.avi").touch()
    data = read_data_set(manifest(tmp_path, "path,label\na\\b.avi,walk\na:b.avi,run\n/v/c\\d.avi,run\n"))
    assert [clip.path for clip in data.clips] == [tmp_path / "a\\b.avi", tmp_path / "a:b.avi", Path("/v/c\\d.avi")]


@pytest.mark.parametrize("path", ["C:\\videos\\a.avi", "d:/videos/a.avi", "\\\\nas\\videos\\a.avi", "\\videos\\a.avi"])
def test_a_path_of_another_machine_is_said_to_be_one(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataSetError) as error:
        read_data_set(manifest(tmp_path, f"path,label\nb.avi,run\n{path},walk\n"))
    assert str(error.value) == (
        f"{tmp_path}/clips.csv, line 3: {path} is a path of a Windows machine; write the path that the file has here, "
        f"or one relative to {tmp_path}"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "path,label\na.mp4,x\ncafé.mp4,y\n".encode("latin-1"),
            "line 3 is not UTF-8; .* in Excel as the type CSV UTF-8",
        ),
        (
            "path,label\na.mp4,x\n".encode("utf-16")[:-1],
            "is neither UTF-8 nor UTF-16 .it is cut off, .* save it as UTF-8",
        ),
        (b"path,label\na.mp4,\0\0\0x\n", "is neither UTF-8 nor UTF-16 .it .* has NUL characters"),
        (b"path;labels\na.mp4;x\n", "has no column 'label'; its columns are path, labels"),
        (b"path,label\na.mp4;x\n", "line 2 has no label"),
        (b'path,label\n"a\nb.mp4",\n', "line 3 has no label"),
        (b"x" * 9999, "has no column 'path'; its columns are x{100}…$"),
    ],
)
def test_a_csv_that_cannot_be_read_is_named_for_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "clips.csv"
    path.write_bytes(content)
    with pytest.raises(DataSetError, match=message):
        read_data_set(path)


def test_a_csv_that_cannot_be_opened_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    path = manifest(tmp_path, ROWS)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataSetError, match=r"clips.csv cannot be read: input/output error$"):
        read_data_set(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"\xff\xfe",
        "path,label\nC:\\a.avi,x\n".encode("utf-16"),
        b"sep=;\npath;label\n;x\n",
        b'path,label\n"',
    ],
)
def test_the_command_ends_with_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clips.csv"
    path.write_bytes(content)
    result = CliRunner().invoke(main, ["train", str(path), "--dry-run"])
    (line,) = result.output.splitlines()
    assert result.exit_code == 1 and line.startswith(f"vtag: {path}") and "Error" not in line


PIECES = (
    *("path", "label", "group", "split", "start_s", "end_s", "sep=;", "train", "test", "a.mp4", "x", "y", "1.5", "C:"),
    *(",", ",", ",", ";", "\t", "\n", "\n", "\r", '"', " ", "\\", "/", "é", "日", "\0", "\u2028", "1e999"),
)
"""What a generated CSV is made of: rows that are nearly right."""

texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
contents = st.one_of(
    st.binary(),
    st.builds(
        lambda start, text, encoding, cut: (start + text).encode(encoding)[:cut],
        st.sampled_from(
            ["", "path,label\n", "path;label;start_s\na.mp4;x;\n", "label\tpath\tsplit\r\n", "\ufeffpath,label\r"]
        ),
        texts,
        st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"]),
        st.sampled_from([None, None, -1, -3]),
    ),
)


@given(contents)
def test_any_content_of_a_csv_gives_clips_or_an_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        data = read_data_set(path)
    except DataSetError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
    else:
        assert len(data.labels) > 1 and not any("\0" in str(clip.path) for clip in data.clips)
