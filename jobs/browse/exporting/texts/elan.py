"""Spans as annotations of ELAN (https://archive.mpi.nl/tla/elan), written with pympi-ling."""

from pathlib import PurePosixPath

from jobs.browse.exporting.exported import ExportedVideo
from jobs.browse.exporting.texts.libraries import library
from jobs.browse.exporting.texts.timeline import media_address
from jobs.browse.exporting.texts.xml_text import known_to_xml

TIER = "vtag"
"""The name of the tier. Annotations of a tier cannot overlap, so those that do are on ``vtag 2`` and so on."""

USUAL_MIME, MIME_TYPES = "video/*", {".mp4": "video/mp4", ".mpg": "video/mpeg", ".mpeg": "video/mpeg"}
"""The types of media that ELAN writes itself."""


def eaf(video: ExportedVideo) -> str:
    """Returns the annotation document of a video, in milliseconds. The value of an annotation is its label."""
    elan = library("pympi.Elan", "pympi-ling", "elan")
    document = elan.Eaf(author="vtag")
    document.remove_tier("default")
    ends: list[int] = []
    for span in video.spans:
        start = round(span.start_s * 1000)
        end = max(start + 1, round(span.end_s * 1000))
        level = next((level for level, until in enumerate(ends) if until <= start), len(ends))
        tier = TIER if level == 0 else f"{TIER} {level + 1}"
        if level == len(ends):
            ends.append(0)
            document.add_tier(tier)
        ends[level] = end
        document.add_annotation(tier, start, end, known_to_xml(span.label))
    name = PurePosixPath(video.video)
    mime = MIME_TYPES.get(name.suffix.lower(), USUAL_MIME)
    document.add_linked_file(media_address(video.video), relpath=f"./{name.name}", mimetype=mime)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{elan.to_string(document)}\n'
