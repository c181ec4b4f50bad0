"""The ranges of videos that ``vtag run --only`` tags: which videos they choose, and how a result records them."""

import hashlib
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.local import absolute
from jobs.archive.video import VideoRanges, video_name, video_path
from jobs.archive.videos import Videos
from jobs.storage.address import is_address
from tagger.errors import InputError, one_line
from tagger.windows import merged_ranges


@dataclass(frozen=True)
class Selection:
    """What ranges choose among the videos of the inputs.

    ``ranges`` of ``videos`` videos are tagged. ``left_out`` videos of the inputs have no range. ``missing`` videos have
    ranges and are not in the inputs; ``first_missing`` is the first of them.
    """

    videos: int
    ranges: int
    left_out: int
    missing: int
    first_missing: str | None


def named_ranges(only: VideoRanges) -> VideoRanges:
    """Returns the ranges of each video, merged and in order, by the name in the column ``video`` of a result.

    Raises InputError without a range, and for one that does not end after its start.
    """
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for text, ranges in only.items():
        for start_s, end_s in ranges:
            if not 0 <= start_s < end_s < math.inf:
                raise InputError(f"a range of {one_line(text)} is from {start_s:g} s to {end_s:g} s; it must end later")
        path = video_path(text)
        name = video_name(path if is_address(path) else absolute(path))
        # Whole numbers of a caller have another JSON form, so another hash.
        found[name] += [(float(start_s), float(end_s)) for start_s, end_s in ranges]
    named = {name: merged_ranges(found[name]) for name in sorted(found) if found[name]}
    if not named:
        raise InputError("--only has no ranges, so there is nothing to tag")
    return named


def recorded_ranges(named: VideoRanges) -> dict[str, Any]:
    """Returns what a result records about ``named_ranges``, in a JSON form: the numbers of them, and a hash."""
    ranges = sum(map(len, named.values()))
    text = json.dumps([[name, [list(each) for each in named[name]]] for name in sorted(named)])
    return {"videos": len(named), "ranges": ranges, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def choose_videos(videos: Videos, named: VideoRanges) -> tuple[Videos, Selection]:
    """Returns those of the ``videos`` that have ranges, with their ranges. Raises InputError when none of them has."""
    is_named = pc.is_in(videos.names, pa.array(list(named), pa.large_string()))
    chosen = videos.filter(is_named.to_numpy(zero_copy_only=False)).with_ranges(named)
    found = set(chosen.names.to_pylist())
    missing = [name for name in named if name not in found]
    if not found:
        more = f"; the first of {len(missing):,} is {one_line(missing[0])}"
        raise InputError(f"no video of --only is in the inputs{more}")
    ranges = sum(len(named[name]) for name in found)
    left_out = len(videos) - len(chosen)
    return chosen, Selection(len(found), ranges, left_out, len(missing), missing[0] if missing else None)
