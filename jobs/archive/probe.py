"""Inspects a local or remote video, for ``vtag probe``."""

from dataclasses import replace

from jobs.storage.staging import StagedVideo, staged
from tagger.errors import VideoError, one_line
from tagger.inspection import Inspection, inspect_video
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling


def inspect(name: str, sampling: Sampling, preprocessing: Preprocessing, *, decode: bool = False) -> Inspection:
    """Runs ``tagger.inspect_video`` on the video called ``name``, a path or an address.

    Returns the problems of a video instead of raising them. Raises JobError when this machine has no room for a copy.
    """
    try:
        with staged(name) as video:
            found = inspect_video(video.path, sampling, preprocessing, decode=decode)
    except VideoError as error:
        return Inspection(name, error_kind=error.kind, problems=(one_line(str(error)),))
    return _with_original_name(video, found)


def _with_original_name(video: StagedVideo, found: Inspection) -> Inspection:
    choice = found.choice
    if choice is not None and choice.reason is not None:
        choice = replace(choice, reason=video.with_original_name(choice.reason))
    problems = tuple(video.with_original_name(problem) for problem in found.problems)
    return replace(found, path=video.name, choice=choice, problems=problems)
