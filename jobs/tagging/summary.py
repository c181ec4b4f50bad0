"""The reports of a job: its progress while it runs, and a summary at the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from jobs.archive.folders import FolderProblem
from jobs.archive.selection import Selection
from jobs.archive.video import Failure
from jobs.result.publish import LabelCount
from tagger.segments import BACKGROUND

Phase = Literal["starting", "comparing", "tagging", "publishing"]


@dataclass(frozen=True)
class Progress:
    """A snapshot of a running job, made whenever a video is finished and about once a second.

    ``videos_total`` counts the videos of the inputs. ``videos_kept`` of them were finished before and are not read
    again; ``videos_done`` does not include them. The content of ``videos_unsure`` ones decides whether they are read;
    that of ``videos_compared`` of them is known. ``decode_busy`` and ``predict_busy`` are the shares of time, 0 to 1,
    that the decoding workers and the model actors spent working since the first result.
    """

    phase: Phase
    videos_total: int
    videos_kept: int = 0
    videos_done: int = 0
    videos_failed: int = 0
    video_s: float = 0.0
    windows: int = 0
    elapsed_s: float = 0.0
    decode_busy: float = 0.0
    predict_busy: float = 0.0
    last_failure: Failure | None = None
    videos_unsure: int = 0
    videos_compared: int = 0


@dataclass(frozen=True)
class Efficiency:
    """The shares of hardware time spent on decoding and on the model, between the first and the last windows.

    ``decode`` and ``model`` are shares, 0 to 1, of the CPU time of ``cores``; ``gpu`` is the share of time in which
    model actors on GPUs were at work, None without GPUs.
    """

    cores: int
    decode: float
    model: float
    gpu: float | None = None

    @property
    def total(self) -> float:
        """The share, 0 to 1, of the resource that limits the job: the cores, or the GPUs when they are busier."""
        return max(self.decode + self.model, self.gpu or 0.0)


@dataclass(frozen=True)
class Summary:
    """The figures of a finished job.

    ``videos``, ``ok``, ``partial``, ``failed``, ``segments``, ``video_s``, ``top_labels`` and ``background`` are of the
    whole result. ``background`` counts the segments that show none of the classes of the model; ``top_labels`` counts
    them as well.

    This job read the ``new``, ``changed`` and ``retried`` videos. ``tagged_s`` is the length of video that it tagged,
    and ``windows_done`` the number of windows. ``elapsed_s`` is the time of the whole job, ``tagging_s`` the part of it
    from the start of the pipeline to its end. ``listing_s``, ``comparing_s`` (with the records of the result) and
    ``publishing_s`` are other parts of it. ``efficiency`` is None when the job was too short to measure.

    ``failures`` are the videos that failed or were read only in part, also those from before an interruption. The job
    did not read the ``kept`` videos, which include the ``touched`` ones (same content, another modification time) and
    the ``moved`` ones (same content, another name). ``gone`` videos are in the result but not in the inputs. ``pruned``
    of them were removed, and with ``--prune`` ``unknown`` ones stay, because they are not certainly gone. ``unlisted``
    folders could not be listed. ``left_out`` counts the files that are not videos, by extension. ``embeddings_out`` is
    None when the result has no embeddings. ``only`` is None when whole videos were tagged.
    """

    out: str
    videos_out: str
    model: str
    sampling: str
    videos: int
    ok: int
    partial: int
    failed: int
    new: int
    changed: int
    retried: int
    touched: int
    moved: int
    kept: int
    gone: int
    pruned: int
    unknown: int
    unlisted: tuple[FolderProblem, ...]
    left_out: Mapping[str, int]
    video_s: float
    segments: int
    tagged_s: float
    windows_done: int
    elapsed_s: float
    tagging_s: float
    efficiency: Efficiency | None = None
    failures: tuple[Failure, ...] = field(default=())
    top_labels: tuple[LabelCount, ...] = field(default=())
    background: LabelCount = field(default_factory=lambda: LabelCount(BACKGROUND, 0, 0.0))
    embeddings_out: str | None = None
    only: Selection | None = None
    listing_s: float = 0.0
    comparing_s: float = 0.0
    publishing_s: float = 0.0
