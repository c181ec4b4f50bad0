"""The errors that a user can see. Each message is one line: what is wrong with what, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

ErrorKind = Literal[
    "missing",
    "permission",
    "unreachable",
    "io",
    "empty",
    "not_video",
    "no_video_stream",
    "unsupported",
    "encrypted",
    "damaged",
    "changed",
    "crashed",
    "timeout",
    "memory",
]
"""Why a video has no rows, or only some of its rows. A closed set, written to the ``error_kind`` column.

``missing``: no such file. ``permission``: the file cannot be opened. ``unreachable``: the bucket or server did not
deliver the file, after all retries, or the local disk has no room for what is read of it. ``io``: the disk, the
mount or the bucket failed while the file was read, or did not answer in time; the file may be whole. ``empty``: zero
bytes. ``not_video``: not a regular file, a playlist, or no known format. ``no_video_stream``: only audio, subtitles or
pictures. ``unsupported``: no decoder for the codec, or a size that vtag does not read. ``encrypted``: the key of a
rights management system is needed. ``damaged``: decoding failed, or the file is cut off. ``changed``: the file was
written to, or removed, while it was read. ``crashed``: the decoder process ended during decoding. ``timeout``: the
decoder gave no frame for too long. ``memory``: the decoder needed more memory than its limit. In the last three cases,
the video was tried twice. Windows that touch no damage are kept.
"""

ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)


class VtagError(Exception):
    """Base of vtag's own errors. ``str(error)`` is one line that can be shown to a user."""


class VideoError(VtagError):
    """A video that cannot be read, and why (``kind``)."""

    def __init__(self, kind: ErrorKind, message: str):
        super().__init__(message)
        self.kind: ErrorKind = kind

    def __reduce__(self) -> "tuple[type[VideoError], tuple[ErrorKind, str]]":
        return type(self), (self.kind, str(self))


class ModelFileError(VtagError):
    """A model file that is damaged, not written by vtag, or written by a newer vtag.

    Also an unknown model name, or a model that cannot be used with the given options.
    """


class WeightsError(VtagError):
    """Pretrained weights that cannot be downloaded or do not fit."""


class DataSetError(VtagError):
    """A labelled data set that cannot be used: no clips, one class, or a split that leaves nothing."""


class TrainingError(VtagError):
    """A training run that cannot succeed, for example because its loss is not a number."""


class OutputError(VtagError):
    """An output path that cannot be written, or that already contains something else."""


class InputError(VtagError):
    """An input that cannot be read, or that matches no video."""


def one_line(text: str) -> str:
    """Turns ``text`` into one line of valid UTF-8. A path may contain line breaks, and bytes that are not UTF-8."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()


NOTE = "vtag was "
"""How a note that ``doing`` adds begins."""


@contextmanager
def doing(work: str, what: object = "") -> Iterator[None]:
    """Adds a note (PEP 678) to an unexpected error in the block: the ``work``, as in "reading", and the file.

    vtag's own errors need no note, because their messages name the file.
    """
    try:
        yield
    except VtagError:
        raise
    except Exception as error:
        error.add_note(NOTE + one_line(f"{work} {what}"))
        raise


def work_of(error: BaseException) -> str | None:
    """Returns what vtag was doing when an error was raised, by its first note of ``doing``; None without one."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(NOTE)]
    return notes[0].removeprefix(NOTE) if notes else None
