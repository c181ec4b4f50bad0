"""The errors a person can meet, each one line of what is wrong with what and what to do."""

from typing import Literal, get_args

ErrorKind = Literal[
    "missing",
    "permission",
    "unreachable",
    "empty",
    "not_video",
    "no_video_stream",
    "unsupported",
    "damaged",
    "changed",
    "crashed",
    "timeout",
    "memory",
]
"""Why a video has no rows, or not all of them. A closed set, written to the ``error_kind`` column.

``missing``: no such file. ``permission``: the file cannot be opened. ``unreachable``: the bucket or the server that
has it did not give it, however often it was asked. ``empty``: zero bytes. ``not_video``: no container format is
recognised. ``no_video_stream``: only audio, subtitles or pictures. ``unsupported``: no decoder for the codec.
``damaged``: decoding failed. ``changed``: the file was written to, or removed, while it was read. ``crashed``: the
decoder's process ended in the middle. ``timeout``: the decoder gave no frame for too long. ``memory``: the decoder
needed more memory than it may use. The last three have been tried twice. Windows before any trouble are kept.
"""

ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)


class VtagError(Exception):
    """Base of vtag's own errors. ``str(error)`` is one line fit to show a person."""


class VideoError(VtagError):
    """A video that cannot be read, and why (``kind``)."""

    def __init__(self, kind: ErrorKind, message: str):
        super().__init__(message)
        self.kind: ErrorKind = kind

    def __reduce__(self) -> "tuple[type[VideoError], tuple[ErrorKind, str]]":
        return type(self), (self.kind, str(self))


class ModelFileError(VtagError):
    """A model file that is damaged, foreign, or from a newer vtag, or a model name that is not known."""


class WeightsError(VtagError):
    """Pretrained weights that cannot be downloaded or do not fit. The message names ``--weights FILE``."""


class DataSetError(VtagError):
    """A labelled data set that cannot be used: no clips, one class, or a split that leaves nothing."""


class TrainingError(VtagError):
    """A training that cannot come to anything, such as one whose loss is not a number."""


class OutputError(VtagError):
    """An output path that cannot be written, or that holds something else."""


class InputError(VtagError):
    """An input that matches no video."""


def one_line(text: str) -> str:
    """``text`` as one line that a table can store: a path may hold line ends, and bytes that are no UTF-8."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
