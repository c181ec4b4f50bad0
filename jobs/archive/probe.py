"""What ``vtag probe`` does: a look at a video, wherever it is."""

from dataclasses import replace

from jobs.storage.staging import StagedVideo, staged
from tagger.errors import VideoError, one_line
from tagger.inspection import Inspection, inspect_video
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling


def inspect(name: str, sampling: Sampling, preprocessing: Preprocessing, *, decode: bool = False) -> Inspection:
    """``tagger.inspect_video`` for the video called ``name``, a path or an address.

    Never raises because of a video. Raises JobError when this machine has no room for a copy of it.
    """
    try:
        with staged(name) as video:
            found = inspect_video(video.path, sampling, preprocessing, decode=decode)
    except VideoError as error:
        return Inspection(name, error_kind=error.kind, problems=(one_line(str(error)),))
    return _in_its_name(video, found)


def _in_its_name(video: StagedVideo, found: Inspection) -> Inspection:
    choice = found.choice
    if choice is not None and choice.reason is not None:
        choice = replace(choice, reason=video.in_its_name(choice.reason))
    problems = tuple(video.in_its_name(problem) for problem in found.problems)
    return replace(found, path=video.name, choice=choice, problems=problems)
