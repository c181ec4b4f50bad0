"""The file of a report, and the place from which it plays videos."""

import re
from collections.abc import Sequence
from pathlib import Path

from jobs.browse.report.assemble import GENERATOR
from jobs.browse.report.page_data import Base, common_folder
from jobs.errors import reason
from jobs.storage.location import Location, locate
from tagger.errors import InputError, OutputError

_BASE = re.compile(r"(?:(.+?)=)?(https?://.+|file:///.*)", re.DOTALL)

HEAD_BYTES = 4096
"""Bytes of a file in which a report names itself."""


def report_location(out: str, option: str = "--out") -> Location:
    """Returns the location of a report, before anything is read or written. Raises OutputError for an unusable one.

    A file that is no report is never replaced.
    """
    try:
        location = locate(out)
        if not location.name.lower().endswith((".html", ".htm")):
            raise OutputError(f"{option} {out}: a report is one page; give a name that ends in .html")
        if location.is_folder():
            raise OutputError(f"{option} {out} is a folder; give the name of a file")
        if location.is_file() and GENERATOR.encode() not in next(location.chunks(), b"")[:HEAD_BYTES]:
            raise OutputError(f"{option} {out} is another file than a report; choose another name")
        if location.is_local and not Path(location.path).parent.is_dir():
            raise OutputError(f"{option} {out}: the folder {Path(location.path).parent} does not exist")
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is no name of a file"
        raise OutputError(f"{option} {out} cannot be reached: {why}") from error
    return location


def parse_base(text: str, names: Sequence[str]) -> Base:
    """Returns where videos are played from. ``text`` is a URL, or ``FOLDER=URL``.

    Without a folder, it is the one in which all videos are. Raises InputError.
    """
    found = _BASE.fullmatch(text)
    if found is None:
        raise InputError(f"--base-url {text}: give an address that begins with https://, http:// or file:///")
    folder, url = found.groups()
    folder = common_folder(names) if folder is None else folder.rstrip("/") + "/"
    if not folder:
        raise InputError(f"--base-url {text}: the videos are in no common folder; name one, as in FOLDER={url}")
    if not any(name.startswith(folder) for name in names):
        raise InputError(f"--base-url {text}: no video is in the folder {folder}")
    return Base(folder, url.rstrip("/") + "/")
