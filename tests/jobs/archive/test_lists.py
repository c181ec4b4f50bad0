"""A list is read in whatever form tools and editors write it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.archive.listing import find_videos
from jobs.archive.lists import names_in_list
from tagger.errors import InputError

NAMES = ["/v/a b.mp4", "/v/grüße.mp4", "s3://bucket/c.mp4"]
TEXT = "# mine\r\n/v/a b.mp4\r\n\r\n  /v/grüße.mp4  \r\ns3://bucket/c.mp4"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.replace("\r\n", "\r").encode(),
        "\0".join(NAMES).encode(),
        "\0".join([*NAMES, ""]).encode(),
    ],
    ids=["utf-8", "utf-8 mark", "utf-16 mark", "little", "big", "big mark", "old mac", "nulls", "closing null"],
)
def test_the_names_are_the_same_in_every_form(content: bytes) -> None:
    assert names_in_list(content, "list.txt") == NAMES


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
@pytest.mark.parametrize("name", ["/v/日本語日本語日本語日本語.mp4", "/видео/лето.mp4", "/βίντεο/ώρα.mp4", "/v/a.mp4"])
def test_a_list_in_utf_16_may_be_in_any_script(name: str, encoding: str) -> None:
    for text in (name, f"{name}\n", f"{name}\r\n/v/b.mp4\r\n"):
        expected = [name, "/v/b.mp4"] if "b.mp4" in text else [name]
        assert names_in_list(text.encode(encoding), "list.txt") == expected


def test_names_separated_by_nulls_are_taken_as_they_are() -> None:
    names = ["# not a comment.mp4", " spaces ", "two\nlines.mp4", os.fsdecode(b"caf\xe9.mp4")]
    content = b"\0".join(map(os.fsencode, names))
    assert names_in_list(content, "list.txt") == names
    assert names_in_list(os.fsencode("one\nname"), "list.txt", null=True) == ["one\nname"]
    # find writes no byte-order mark, so these three bytes are a name.
    assert names_in_list(b"\xef\xbb\xbf\0a", "list.txt", null=True) == [os.fsdecode(b"\xef\xbb\xbf"), "a"]


@given(st.lists(st.binary(min_size=1).filter(lambda name: b"\0" not in name), min_size=1))
def test_names_of_any_bytes_survive_with_the_option(names: list[bytes]) -> None:
    assert list(map(os.fsencode, names_in_list(b"\0".join(names), "-", null=True))) == names


@given(st.binary())
def test_no_content_of_a_list_is_more_than_an_input_error(content: bytes) -> None:
    try:
        names = names_in_list(content, "list.txt")
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert names and not any("\0" in name for name in names)


@pytest.mark.parametrize("line", ['"/v/a.mp4"', "'/v/a.mp4'"])
def test_a_line_in_quotes_is_named_with_a_hint(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=f"list.txt has a line in quotes: {line}; write the path without them"):
        names_in_list(f"/v/b.mp4\n{line}\n".encode(), "list.txt")
    monkeypatch.chdir(tmp_path)
    Path("'odd'").touch()
    assert names_in_list(b"'odd'", "list.txt") == ["'odd'"]


def test_a_list_that_is_cut_off_in_utf_16_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="neither UTF-8 nor UTF-16; save it as UTF-8"):
        names_in_list(TEXT.encode("utf-16") + b"a", "list.txt")


def test_a_file_address_in_a_list_is_a_local_path(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.txt").write_bytes(f"file://{tmp_path}/a.mp4\0".encode())
    assert [video.path for video in find_videos([f"@{tmp_path}/list.txt"])] == [str(tmp_path / "a.mp4")]
