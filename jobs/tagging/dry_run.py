"""A dry run: what a planned job would do, without doing it."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jobs.archive.folders import FolderProblem
from jobs.archive.selection import Selection
from jobs.archive.video import Video
from jobs.storage.address import is_address
from jobs.tagging.plan import Plan
from tagger.errors import VideoError
from tagger.isolation import decoder_of_this_thread
from tagger.windows import WantedWindows

PROBES = 8
"""Number of processes that open videos at the same time. On a network disk they wait most of the time."""


@dataclass(frozen=True)
class DryRun:
    """The figures that ``vtag run --dry-run`` shows.

    ``videos`` is the number of videos in the inputs. The job would read the ``new``, ``changed`` and ``retried`` ones,
    but not the ``kept`` ones. It would compare the content of the ``unsure`` ones first, which have the size of a video
    in the result, and another modification time or name: it may read them or keep them. ``moved_or_gone`` videos of the
    result are not at their places, and may have become unsure ones. ``gone`` other videos are in the result but not in
    the inputs. The job would remove ``pruned`` of them and, with ``--prune``, keep ``unknown`` ones, which are not
    certainly gone. ``unlisted`` folders could not be listed. ``left_out`` counts the files that are not videos, by
    extension.

    ``unreadable`` videos cannot be opened. The job would tag ``video_s`` seconds of video in ``windows`` windows.
    ``unopened`` videos are in buckets and would have to be copied first, so ``unreadable``, ``video_s`` and ``windows``
    do not include them. ``only`` is None when whole videos are tagged.
    """

    videos: int
    new: int
    changed: int
    retried: int
    kept: int
    gone: int
    pruned: int
    unknown: int
    unlisted: tuple[FolderProblem, ...]
    left_out: Mapping[str, int]
    unreadable: int
    unopened: int
    video_s: float
    windows: int
    only: Selection | None = None
    unsure: int = 0
    moved_or_gone: int = 0


def dry_run(plan: Plan, on_probed: Callable[[int], None] = lambda probed: None) -> DryRun:
    """Opens every local video that is still to be tagged and adds up lengths and windows.

    ``on_probed`` gets the number of videos opened so far.
    """

    def windows_of(video: Video) -> tuple[float, int] | None:
        try:
            facts = decoder_of_this_thread().probe(video.path)
        except VideoError:  # The run will report it in the video's row.
            return None
        duration_s = facts.duration_s or 0.0
        count = plan.sampling.window_count(duration_s)
        return duration_s, WantedWindows(plan.sampling, video.only, duration_s).count(count)

    here = [video for video in plan.todo if not is_address(video.path)]
    unreadable = windows = 0
    video_s = 0.0
    with ThreadPoolExecutor(max_workers=min(PROBES, max(1, len(here)))) as pool:
        for probed, found in enumerate(pool.map(windows_of, here), start=1):
            if found is None:
                unreadable += 1
            else:
                video_s += found[0]
                windows += found[1]
            on_probed(probed)
    changes = plan.changes
    return DryRun(
        videos=len(plan.videos),
        new=len(changes.new),
        changed=len(changes.changed),
        retried=len(changes.retried),
        kept=changes.kept,
        gone=changes.gone,
        pruned=len(plan.pruning.gone),
        unknown=plan.pruning.unknown,
        unlisted=plan.unlisted,
        left_out=plan.left_out,
        unreadable=unreadable,
        unopened=len(plan.todo) - len(here),
        video_s=video_s,
        windows=windows,
        only=plan.only,
        unsure=len(changes.unsure),
        moved_or_gone=len(changes.unsure.origins),
    )
