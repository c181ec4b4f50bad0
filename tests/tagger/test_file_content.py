"""Text files are read in UTF-8 and UTF-16, with and without a byte-order mark."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.file_content import decode_text

TEXT = "path,label\nvidéos/лето.mp4,日本語\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_text_is_the_same_in_every_encoding(encoding: str) -> None:
    assert decode_text(TEXT.encode(encoding), ",\n") == TEXT
    assert decode_text("\ufeff".encode("utf-16-be") + TEXT.encode("utf-16-be"), ",\n") == TEXT


@pytest.mark.parametrize("content", [TEXT.encode("utf-16")[:-1], b"a\0\0\0b", "café".encode("latin-1")])
def test_content_that_is_no_such_text_is_refused(content: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_text(content, ",\n")


@given(st.binary())
def test_a_text_has_no_nul_characters(content: bytes) -> None:
    with contextlib.suppress(UnicodeDecodeError):
        assert "\0" not in decode_text(content, ",\n")
