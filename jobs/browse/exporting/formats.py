"""The formats of exports, by name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from jobs.browse.exporting.exported import ExportedVideo
from jobs.browse.exporting.texts.chapters import ffmetadata
from jobs.browse.exporting.texts.datasets import activitynet_parts, fiftyone_parts
from jobs.browse.exporting.texts.editors import cmx3600, lossless_cut
from jobs.browse.exporting.texts.elan import eaf
from jobs.browse.exporting.texts.label_studio_tasks import interface_parts, task_parts
from jobs.browse.exporting.texts.sidecars import nfo, xmp
from jobs.browse.exporting.texts.subtitles import subrip, webvtt
from jobs.browse.exporting.texts.tables import csv_parts, json_lines_parts
from jobs.browse.exporting.texts.timeline import timeline_parts


@dataclass(frozen=True)
class About:
    """What a file says of its origin: the result, and its model. ``frame_rate`` is that of Label Studio's project."""

    result: str
    model: str
    frame_rate: float


@dataclass(frozen=True)
class OneFile:
    """A format with all videos in one file. ``parts`` yields its text, and may hold one video at a time."""

    parts: Callable[[Iterable[ExportedVideo], About], Iterator[str]]


@dataclass(frozen=True)
class FilePerVideo:
    """A format with a file for each video. ``text`` returns it.

    The ``ending`` replaces that of the video, or is added to it if the file ``keeps_name``.
    """

    ending: str
    text: Callable[[ExportedVideo], str]
    keeps_name: bool = False


Format = OneFile | FilePerVideo

FORMATS: dict[str, Format] = {
    "csv": OneFile(lambda videos, about: csv_parts(videos)),
    "jsonl": OneFile(lambda videos, about: json_lines_parts(videos)),
    "webvtt": FilePerVideo(".vtt", webvtt),
    "srt": FilePerVideo(".srt", subrip),
    "chapters": FilePerVideo(".ffmetadata", ffmetadata),
    "lossless-cut": FilePerVideo(".csv", lossless_cut),
    "edl": FilePerVideo(".edl", cmx3600),
    "otio": OneFile(lambda videos, about: timeline_parts(videos, about.result)),
    "activitynet": OneFile(lambda videos, about: activitynet_parts(videos)),
    "elan": FilePerVideo(".eaf", eaf),
    "labelstudio": OneFile(lambda videos, about: task_parts(videos, about.model, about.frame_rate)),
    "labelstudio-config": OneFile(lambda videos, about: interface_parts(videos, about.frame_rate)),
    "fiftyone": OneFile(lambda videos, about: fiftyone_parts(videos)),
    # Catalogues look for a.mp4.xmp, and media servers for a.nfo.
    "xmp": FilePerVideo(".xmp", xmp, keeps_name=True),
    "nfo": FilePerVideo(".nfo", nfo),
}
"""In the order in which they are listed. ``jobs/cli/README.md`` says what each is for."""
