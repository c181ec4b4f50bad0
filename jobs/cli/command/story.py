"""The full story of a failure, in a file: versions, command, traceback, and what Ray and its workers printed."""

import os
import platform
import shlex
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

import tagger
from jobs.errors import WorkerError
from jobs.storage.address import is_address
from tagger.live.source import without_secrets


def story_of(error: BaseException) -> str:
    """Returns the full story of ``error``, as a text of several lines."""
    log = error.log if isinstance(error, WorkerError) else ""
    return (
        f"vtag {tagger.__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"{datetime.now(UTC).isoformat(timespec='seconds')}\n{shlex.join(map(without_secrets, sys.argv))}\n\n"
        f"{''.join(traceback.format_exception(error))}" + (f"\nThe log of Ray and its workers:\n{log}" if log else "")
    )


def write_story(error: BaseException, run_folder: str | None) -> str | None:
    """Writes the story of ``error`` to a new file and returns its path; None when it can be written nowhere.

    The file is in ``run_folder`` if there is such a local folder, else in the temporary folder.
    """
    content = story_of(error).encode("utf-8", "backslashreplace")
    if run_folder is not None and not is_address(run_folder):
        file = Path(run_folder, f"error-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt")
        try:
            file.write_bytes(content)
        except (OSError, ValueError):
            pass
        else:
            return str(file)
    try:
        with tempfile.NamedTemporaryFile(prefix="vtag-error-", suffix=".txt", delete=False) as temporary:
            temporary.write(content)
    except OSError:
        return None
    return temporary.name
