"""The run folder: what a job has finished so far, in plain files, so that an interrupted job can go on.

``plan.json`` says which model, sampling and top-k the rows come from. Each commit adds two Parquet files,
``part-000000.tags.parquet`` and ``part-000000.videos.parquet``: rows of finished videos, with the schemas of the result
(the second with the modification time in nanoseconds added). The videos part is written last and is the record; a
tags part without it is as good as absent and is written over by the next commit.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.durable import write_table, write_text
from jobs.job import Video
from jobs.results import FinishedVideo, tags_table, video_name, videos_table
from tagger.clips import Status
from tagger.errors import OutputError
from tagger.schema import VIDEOS_SCHEMA

LEDGER_FORMAT = 1
"""Version of the run folder's layout."""

MTIME = pa.field("mtime_ns", pa.int64(), nullable=False)
RECORD_SCHEMA = VIDEOS_SCHEMA.append(MTIME)
"""Rows of a videos part."""


@dataclass(frozen=True)
class RunIdentity:
    """What the rows of a run depend on, beside the videos themselves; ``sampling`` is its JSON form."""

    model: str
    model_hash: str
    sampling: dict
    top_k: int


@dataclass(frozen=True)
class Kept:
    """A finished video of the ledger: its size and time when it was read, how, and the part that holds its rows."""

    size: int
    mtime_ns: int
    part: int
    status: Status


class Ledger:
    """A run folder, opened to be continued. One process writes to it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._kept = _read_kept(folder)
        self._next_part = 1 + max((_part_number(path) for path in folder.glob("part-*.videos.parquet")), default=-1)

    @classmethod
    def create(cls, folder: Path, identity: RunIdentity, about: dict) -> "Ledger":
        """Opens the ledger at ``folder``, and makes it first where there is none. ``about`` is noted, not compared."""
        folder.mkdir(exist_ok=True)
        if read_identity(folder) is None:
            remove(folder)
            folder.mkdir(exist_ok=True)
            plan = {"format": LEDGER_FORMAT, **asdict(identity), **about}
            write_text(json.dumps(plan, indent=2, sort_keys=True) + "\n", folder / "plan.json")
        return cls(folder)

    def kept(self, video: Video) -> Kept | None:
        """The record of ``video`` when it was finished and has not changed since."""
        kept = self._kept.get(video_name(video.path))
        return kept if kept and (kept.size, kept.mtime_ns) == (video.size, video.mtime_ns) else None

    def commit(self, videos: Sequence[FinishedVideo]) -> None:
        """Adds finished videos, all or none of them. They are on disk when this returns."""
        if not videos:
            return
        part = self._next_part
        mtimes_ns = {video_name(done.video.path): done.video.mtime_ns for done in videos}
        record = videos_table(videos)
        column = [mtimes_ns[name] for name in record["video"].to_pylist()]
        record = record.append_column(MTIME, pa.array(column, MTIME.type))
        write_table(tags_table(videos), self.tags_part(part))
        write_table(record, self.videos_part(part))
        self._next_part += 1
        for done in videos:
            self._kept[video_name(done.video.path)] = Kept(done.video.size, done.video.mtime_ns, part, done.end.status)

    def tags_part(self, part: int) -> Path:
        """The file with the segments of a part."""
        return self.folder / f"part-{part:06d}.tags.parquet"

    def videos_part(self, part: int) -> Path:
        """The file with the video rows of a part."""
        return self.folder / f"part-{part:06d}.videos.parquet"


def read_identity(folder: Path) -> RunIdentity | None:
    """What the run at ``folder`` was started with; None when there is no run. Raises OutputError for a newer vtag's."""
    try:
        plan = json.loads((folder / "plan.json").read_text("utf-8"))
        if plan["format"] > LEDGER_FORMAT:
            raise OutputError(f"{folder} was written by a newer vtag; upgrade vtag, or choose another --out")
        return RunIdentity(**{name: plan[name] for name in ("model", "model_hash", "sampling", "top_k")})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{folder / 'plan.json'} is damaged; use --overwrite to start over ({error})") from error


def remove(folder: Path) -> None:
    """Removes a run folder, and from it only what vtag puts there; the plan goes first, so half of it is no run."""
    for pattern in ("plan.json", "part-*.parquet", ".*.tmp"):
        for path in sorted(folder.glob(pattern)):
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _read_kept(folder: Path) -> dict[str, Kept]:
    kept = {}
    # In the order of their commits: a video that was read again counts as it was read last.
    for path in sorted(folder.glob("part-*.videos.parquet")):
        part = _part_number(path)
        table = pq.read_table(path, columns=["video", "size", "mtime_ns", "status"], schema=RECORD_SCHEMA)
        for name, size, mtime_ns, status in zip(*(column.to_pylist() for column in table.columns), strict=True):
            kept[name] = Kept(size, mtime_ns, part, status)
    return kept


def _part_number(path: Path) -> int:
    return int(path.name.split(".")[0].removeprefix("part-"))
