"""A home folder for users without one: containers often run as a user id that has no passwd entry."""

import contextlib
import getpass
import os
import tempfile
from functools import cache
from pathlib import Path

from tagger.errors import VtagError


def user_cache_folder() -> Path:
    """Returns the folder for files that are kept between runs, which need not exist: ``$XDG_CACHE_HOME``, else
    ``~/.cache``, else, when nothing can be written there, one below the folder for temporary files.
    """
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base)
    home = _home()
    folder = home and home / ".cache"
    return folder if folder and (folder.is_dir() or _is_writable(folder)) else own_temporary_folder() / ".cache"


def missing_variables() -> dict[str, str]:
    """Returns environment variables that Ray, PyTorch, Triton and matplotlib need and that this user lacks.

    A user without a home gets ``HOME``, and a user without a name ``USER``. When the home cannot be written, as ``/``
    in a container, Triton and matplotlib get folders of their own.
    """
    missing: dict[str, str] = {}
    home = _home()
    with contextlib.suppress(VtagError):
        if home is None:
            missing["HOME"] = str(own_temporary_folder())
        elif not _is_writable(home):
            folders = {"TRITON_CACHE_DIR": "triton", "MPLCONFIGDIR": "matplotlib"}
            missing |= {name: str(own_temporary_folder() / folder) for name, folder in folders.items()}
    try:
        getpass.getuser()
    except (KeyError, OSError):
        missing["USER"] = f"uid{os.getuid()}"
    return {name: value for name, value in missing.items() if name not in os.environ}


def has_writable_home() -> bool:
    """Returns whether this user has a home folder that can be written to."""
    home = _home()
    return home is not None and _is_writable(home)


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _is_writable(folder: Path) -> bool:
    """Returns whether files can be written to ``folder``, which is created with the first of them if it is absent."""
    while not os.access(folder, os.F_OK) and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


@cache
def own_temporary_folder() -> Path:
    """Returns a folder that only this user can write to, the same one in each run if possible. Raises VtagError."""
    try:
        folder = Path(tempfile.gettempdir()) / f"vtag-home-{os.getuid()}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            # Every user can write to the folder for temporary files, so the name may have been taken by another.
            if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
                return Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    except OSError as error:
        raise VtagError("no home folder and no folder for temporary files can be written to; set TMPDIR") from error
    return folder
