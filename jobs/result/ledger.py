"""The run folder: the finished videos of a job in plain files, so that an interrupted job can continue.

``plan.json`` holds the model, the sampling and the top-k of the rows. Each commit adds two Parquet files,
``part-000000.tags.parquet`` and ``part-000000.videos.parquet``, and with embeddings a third,
``part-000000.embeddings.parquet``: rows of finished videos, with the schemas of the result. The videos part is written
last and completes the commit. Other files of a part do not count without it, and the next commit overwrites them.
``moved-000000.parquet`` has the old and new names of moved videos. ``kept-000000.parquet`` has rows of videos that are
not finished, and ``contents-000000.parquet`` fingerprints of videos that are not read; both count only until the run is
finished. ``log-000.jsonl`` has the events with their times, in a new file for each start of the job.
"""

import contextlib
import json
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import tagger
from jobs.archive.fingerprint import CONTENT, contents_of
from jobs.archive.videos import Videos
from jobs.errors import reason
from jobs.result.identity import RunIdentity
from jobs.result.merge import EMBEDDINGS_GROUP_ROWS, TableFiles
from jobs.storage.location import Location
from tagger.errors import OutputError

LEDGER_FORMAT, EMBEDDINGS_FORMAT, READABLE_FORMATS = 5, 6, (2, 3, 4, 5, 6)
"""Versions of the run folder's layout: without and with embeddings, and those that are continued. Version 2 has no
moved videos, versions 3 and 4 have them in OLD_MOVED."""

LEDGER_PART = re.compile(r"part-(\d{6,})\.(tags|videos|embeddings)\.parquet")
"""The file names of a part: its number and its table."""

KEPT = re.compile(r"kept-(\d{6,})\.parquet")
"""The file names of rows of videos that are not finished."""

CONTENTS = re.compile(r"contents-(\d{6,})\.parquet")
"""The file names of fingerprints."""

MOVED = re.compile(r"moved-(\d{6,})\.parquet")
"""The file names of moved videos."""

OLD_MOVED = re.compile(r"moved\.json")
"""The same in run folders of older versions: an object of the new names by the old ones."""

LOG_INTERVAL_S = 30.0
"""Seconds between two writes of the log to a bucket, where a file cannot be appended to and is written anew."""


class Ledger:
    """A run folder that one process writes to: see ``jobs.result.lock``.

    ``check_lock`` is called before each file of a commit is written. It raises OutputError when another job holds the
    run folder now.
    """

    def __init__(self, folder: Location, check_lock: Callable[[], None] = lambda: None):
        self.folder = folder
        self._check_lock = check_lock
        self._next_part = len(committed_parts(folder))
        self._next_kept = _next_number(folder, KEPT)
        self._next_contents = _next_number(folder, CONTENTS)
        started = read_started_run(folder)
        assert started is not None, "there is no plan; use Ledger.open"
        self.run_id = started.run_id
        self.embedding_size = started.identity.embedding_size
        self._log = folder.child(f"log-{sum(name.startswith('log-') for name in folder.names()):03d}.jsonl")
        self._lines: list[str] = []
        self._log_written_s = -LOG_INTERVAL_S

    @classmethod
    def open(
        cls,
        folder: Location,
        identity: RunIdentity,
        *,
        replaces: bool = False,
        check_lock: Callable[[], None] = lambda: None,
    ) -> "Ledger":
        """Opens the run folder ``folder`` for writing. Creates its plan first if there is none.

        ``replaces``: the run replaces an earlier result instead of adding to it.
        """
        if read_started_run(folder) is None:
            folder.create_folder()
            remove(folder, keep_contents=True)
            plan = {
                "format": LEDGER_FORMAT if identity.embeddings is None else EMBEDDINGS_FORMAT,
                **identity.to_json(),
                "replaces": replaces,
                "run": uuid.uuid4().hex,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "vtag_version": tagger.__version__,
            }
            folder.child("plan.json").write_text(json.dumps(plan, indent=2, sort_keys=True) + "\n")
        return cls(folder, check_lock)

    def commit(self, videos: pa.Table, tags: pa.Table, embeddings: pa.Table | None = None) -> None:
        """Adds rows of VIDEOS_SCHEMA and the rows of TAGS_SCHEMA that belong to them, both sorted by video.

        ``embeddings`` has a row for each row of ``tags`` if the run has embeddings, else it is None. Adds all rows or
        none. They are on disk when this returns.
        """
        assert (embeddings is None) == (self.embedding_size is None)
        part = part_files(self.folder, self._next_part, embeddings=embeddings is not None)
        self._check_lock()
        part.tags.write_table(tags)
        if part.embeddings is not None:
            self._check_lock()
            part.embeddings.write_table(embeddings, EMBEDDINGS_GROUP_ROWS)
        self._check_lock()
        part.videos.write_table(videos)
        self._next_part += 1
        self.log("committed", part=part.videos.name, videos=videos.num_rows, segments=tags.num_rows)

    def keep(self, rows: pa.Table) -> None:
        """Keeps rows of videos that are not finished, for the same run if it is interrupted."""
        self._check_lock()
        self.folder.child(f"kept-{self._next_kept:06d}.parquet").write_table(rows)
        self._next_kept += 1

    def note(self, videos: Videos, fingerprints: Sequence[str]) -> None:
        """Notes the fingerprints of these versions of videos, for the same run if it is interrupted."""
        if not len(videos):
            return
        self._check_lock()
        columns = {"video": videos.names, "size": videos.sizes, "mtime_ns": videos.mtimes_ns}
        table = pa.table({**columns, "fingerprint": pa.array(fingerprints, pa.string())})
        self.folder.child(f"contents-{self._next_contents:06d}.parquet").write_table(table)
        self._next_contents += 1

    def move(self, old_names: pa.Array, new_names: pa.Array) -> None:
        """Notes moved videos, before their rows are committed."""
        if not len(old_names):
            return
        self._check_lock()
        name = f"moved-{_next_number(self.folder, MOVED):06d}.parquet"
        self.folder.child(name).write_table(pa.table([old_names, new_names], MOVES))

    def log(self, event: str, **facts: Any) -> None:
        """Writes an event to the log. A log that cannot be written does not stop the job."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **facts}) + "\n"
        with contextlib.suppress(OSError):
            if self.folder.is_local:
                with open(self._log.path, "a", encoding="utf-8") as file:  # noqa: PTH123
                    file.write(line)
                return
            self._lines.append(line)
            if time.monotonic() - self._log_written_s >= LOG_INTERVAL_S or event != "committed":
                self._log.write_text("".join(self._lines))
                self._log_written_s = time.monotonic()


NOTED = pa.schema([("video", pa.large_string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("content", CONTENT)])
"""Contents of versions of videos: names, sizes in bytes, and modification times in nanoseconds."""

MOVES = pa.schema([("old", pa.large_string()), ("new", pa.large_string())])
"""The old and the new names of moved videos."""


def read_contents(folder: Location) -> pa.Table:
    """Reads the contents of videos that a run has noted: rows of NOTED, sorted by video, the last of each.

    Raises OutputError.
    """
    noted = [NOTED.empty_table()]
    for file in _numbered(folder, CONTENTS):
        try:
            rows = file.parquet().read()
            content = contents_of(rows["fingerprint"].to_pylist())
            noted.append(pa.table([rows["video"], rows["size"], rows["mtime_ns"], content], NOTED))
        except (OSError, KeyError) as error:
            why = reason(error) if isinstance(error, OSError) else f"it has no column {error}"
            raise OutputError(f"{file} cannot be read: {why}; if it is damaged, remove it") from error
    table = pa.concat_tables(noted).combine_chunks()
    table = table.append_column("number", pa.array(np.arange(len(table))))
    table = table.take(pc.sort_indices(table, [("video", "ascending"), ("number", "descending")])).combine_chunks()
    is_last = np.ones(len(table), bool)
    is_last[1:] = pc.not_equal(table["video"][1:], table["video"][:-1]).to_numpy()
    return table.filter(pa.array(is_last)).select(NOTED.names)


def _numbered(folder: Location, pattern: re.Pattern[str]) -> list[Location]:
    return [folder.child(name) for name in sorted(filter(pattern.fullmatch, folder.names()))]


def _next_number(folder: Location, pattern: re.Pattern[str]) -> int:
    """Returns the number of the next file. Not the number of files: a damaged one may have been removed."""
    return 1 + max((int(match[1]) for name in folder.names() if (match := pattern.fullmatch(name))), default=-1)


def part_files(folder: Location, number: int, *, embeddings: bool) -> TableFiles:
    """Returns the files of a part, with or without ``embeddings``."""
    name = f"part-{number:06d}"
    return TableFiles(
        folder.child(f"{name}.tags.parquet"),
        folder.child(f"{name}.videos.parquet"),
        folder.child(f"{name}.embeddings.parquet") if embeddings else None,
    )


def committed_parts(folder: Location) -> list[TableFiles]:
    """Returns the parts that were committed to a run folder, in order. Raises OutputError when one is missing."""
    names = set(folder.names())
    matches = [match for name in names if (match := LEDGER_PART.fullmatch(name))]
    numbers = sorted(int(match[1]) for match in matches if match[2] == "videos")
    embeddings = any(match[2] == "embeddings" for match in matches)
    found = [part_files(folder, number, embeddings=embeddings) for number in numbers]
    if numbers != list(range(len(numbers))) or not all(file.name in names for part in found for file in part.files):
        raise OutputError(f"{folder} lacks parts that were committed to it; remove it, and its videos are tagged again")
    return found


def kept_tables(folder: Location) -> list[Location]:
    """Returns the files with rows of videos that are not finished, in the order in which they were written."""
    return _numbered(folder, KEPT)


def read_moved(folder: Location) -> pa.Table:
    """Reads the names of moved videos: rows of MOVES, in the order in which they were noted.

    Raises OutputError when a file is damaged.
    """
    tables = [MOVES.empty_table()]
    for file in _numbered(folder, OLD_MOVED) + _numbered(folder, MOVED):
        try:
            if file.name.endswith(".json"):
                names = json.loads(file.read_text())
                tables.append(pa.table([list(names), list(names.values())], MOVES))
            else:
                tables.append(file.parquet().read().cast(MOVES))
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise OutputError(f"{file} is damaged; remove {folder}, and its videos are tagged again") from error
    return pa.concat_tables(tables).combine_chunks()


@dataclass(frozen=True)
class StartedRun:
    """A run with a run folder: its identity, its id, and whether it replaces an earlier result."""

    identity: RunIdentity
    run_id: str
    replaces: bool


def read_started_run(folder: Location) -> StartedRun | None:
    """Reads the plan with which the run at ``folder`` was started; None when there is no run.

    Raises OutputError for a damaged run folder, for one that cannot be read, and for one of another version of vtag.
    """
    try:
        plan = json.loads(folder.child("plan.json").read_text())
        if plan["format"] not in READABLE_FORMATS:
            raise OutputError(
                f"{folder} was written by another version of vtag ({plan['vtag_version']}); finish it with that "
                "version, or remove it, and its videos are tagged again"
            )
        return StartedRun(RunIdentity.from_json(plan), plan["run"], bool(plan["replaces"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(f"{folder.child('plan.json')} cannot be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputError(
            f"{folder.child('plan.json')} is damaged; remove {folder}, and its videos are tagged again"
        ) from error


def has_only_contents(folder: Location) -> bool:
    """Returns whether a run was interrupted while it compared videos: it has noted their content and nothing else.

    The content does not depend on the options of the run.
    """
    names = folder.names()
    others = (LEDGER_PART, KEPT, MOVED, OLD_MOVED)
    return any(map(CONTENTS.fullmatch, names)) and not any(
        pattern.fullmatch(name) for name in names for pattern in others
    )


def remove(folder: Location, *, keep_contents: bool = False) -> None:
    """Removes the run in a run folder: all files of vtag except the lock file.

    ``keep_contents``: what the run noted of the content of videos stays for the next run. The plan is removed first: a
    half-removed folder is no run.
    """
    mine = re.compile(
        rf"plan\.json|{OLD_MOVED.pattern}|{MOVED.pattern}|{LEDGER_PART.pattern}|{KEPT.pattern}|{CONTENTS.pattern}|log-\d+\.jsonl|error-[\w.-]+\.txt|\..*\.tmp"
    )
    for name in sorted(folder.names(), key=lambda name: name != "plan.json"):
        if mine.fullmatch(name) and not (keep_contents and CONTENTS.fullmatch(name)):
            folder.child(name).delete()
