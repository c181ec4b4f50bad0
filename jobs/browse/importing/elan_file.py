"""Marks from annotation documents of ELAN (https://archive.mpi.nl/tla/elan), read with pympi-ling."""

from collections.abc import Collection
from pathlib import Path

from jobs.browse.exporting.texts.libraries import library
from jobs.browse.importing.found_marks import FoundMark
from tagger.errors import InputError, one_line


def document_marks(path: Path, tiers: Collection[str] = ()) -> list[FoundMark]:
    """Returns a mark for each annotation of ``tiers``, or of all tiers without them. Raises InputError.

    Its label is the value of the annotation, or the name of the tier if that is empty. The names of its video are the
    media of the document, videos first.
    """
    elan = library("pympi.Elan", "pympi-ling", "elan")
    try:
        document = elan.Eaf(str(path), suppress_version_warning=True)
        media = [(each.get("MEDIA_URL") or "", each.get("MIME_TYPE") or "") for each in document.media_descriptors]
        names = sorted(document.get_tier_names())
        annotations = {
            name: document.get_annotation_data_for_tier(name) for name in names if not tiers or name in tiers
        }
    # The library raises Exception itself, besides the errors that a damaged document leads to.
    except Exception as error:
        raise InputError(f"{path} is no annotation document of ELAN, or is damaged") from error
    missing = next((tier for tier in tiers if tier not in names), None)
    if missing is not None:
        raise InputError(f"{path} has no tier {one_line(missing)!r}; its tiers are {one_line(', '.join(names))}")
    videos = tuple(url for url, _ in sorted(media, key=lambda each: not each[1].startswith("video")) if url)
    found = []
    for tier, rows in annotations.items():
        for start, end, value, *_ in rows:
            where = f"{path}, tier {one_line(tier)}"
            if start is None or end is None:
                raise InputError(f"{where} has an annotation without times; choose other tiers with --tier")
            if end > start:
                found.append(FoundMark(where, videos, start / 1000, end / 1000, (value or "").strip() or tier))
    return found
