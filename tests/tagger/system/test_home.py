"""A user without a home folder, or with one that cannot be written."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagger.models.weights import cache_dir
from tagger.system import home
from tagger.system.home import has_writable_home, missing_variables


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that such a user gets, in a temporary folder that is empty at first."""
    for name in ("VTAG_CACHE", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    home.own_temporary_folder.cache_clear()
    yield temporary / f"vtag-home-{os.getuid()}"
    home.own_temporary_folder.cache_clear()


@pytest.fixture
def no_home(own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def raise_error() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", raise_error)
    monkeypatch.delenv("HOME")
    return own


@pytest.fixture
def unwritable_home(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Root, too, cannot create a folder below a file.
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file/home"))
    return own


def test_downloads_are_kept_in_the_home_folder(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home/.cache/vtag"
    assert has_writable_home()
    assert not {"HOME", "TRITON_CACHE_DIR", "MPLCONFIGDIR"} & missing_variables().keys()


def test_a_user_without_a_home_folder_gets_one(no_home: Path) -> None:
    assert not has_writable_home()
    assert cache_dir() == no_home / ".cache/vtag"
    assert missing_variables()["HOME"] == str(no_home)
    assert no_home.stat().st_mode & 0o777 == 0o700


def test_a_home_folder_that_cannot_be_written_is_kept_and_the_caches_move(unwritable_home: Path) -> None:
    assert not has_writable_home()
    assert cache_dir() == unwritable_home / ".cache/vtag"
    missing = missing_variables()
    assert "HOME" not in missing
    assert missing["MPLCONFIGDIR"] == str(unwritable_home / "matplotlib")
    assert missing["TRITON_CACHE_DIR"] == str(unwritable_home / "triton")


def test_variables_of_the_user_are_kept(unwritable_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", "/elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert "MPLCONFIGDIR" not in missing_variables()
    assert cache_dir() == Path("/caches/vtag")


def test_a_user_without_a_name_gets_one(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_error() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", raise_error)
    monkeypatch.delenv("USER", raising=False)
    assert missing_variables()["USER"] == f"uid{os.getuid()}"


@pytest.mark.parametrize("taken_by", ["a file", "a link"])
def test_a_folder_that_another_user_prepared_is_not_used(no_home: Path, tmp_path: Path, taken_by: str) -> None:
    if taken_by == "a file":
        no_home.touch()
    else:
        (tmp_path / "trap").mkdir()
        no_home.symlink_to(tmp_path / "trap")
    found = cache_dir()
    assert found.parents[1].parent == no_home.parent
    assert found.parents[1] != no_home


def test_without_any_folder_the_message_says_what_to_do(no_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tagger.errors import VtagError

    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    assert "HOME" not in missing_variables()
    with pytest.raises(VtagError, match="set TMPDIR"):
        cache_dir()
