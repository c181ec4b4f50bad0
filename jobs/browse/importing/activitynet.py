"""Marks from the JSON of ActivityNet (https://github.com/activitynet/ActivityNet), which many data sets of moments use.

Its ``database`` has an entry for each video: ``{"annotations": [{"segment": [12.5, 17.0], "label": "Swing"}], …}``.
"""

import math
from pathlib import Path
from typing import Any

from jobs.browse.importing.found_marks import FoundMark
from tagger.errors import InputError, one_line


def database_marks(data: dict[str, Any], path: Path) -> list[FoundMark]:
    """Returns the marks of all annotations. Raises InputError, with the video, for what is no annotation.

    The name of a video may lack its ending, and may have lost the ``v_`` before the name of its file.
    """
    database = data.get("database")
    if not isinstance(database, dict):
        more = "; results of a model are no marks" if "results" in data else ""
        raise InputError(f"{path} has no database of annotations, as ActivityNet's files have it{more}")
    found = []
    for video, entry in database.items():
        where = f"{path}, video {one_line(video)}"
        try:
            for annotation in entry["annotations"]:
                start_s, end_s = map(float, annotation["segment"])
                if not 0 <= start_s < end_s < math.inf:
                    raise ValueError
                names = (video, f"v_{video}")
                found.append(FoundMark(where, names, start_s, end_s, str(annotation["label"]), names_a_stem=True))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{where} has an annotation without a segment of two times, and a label") from error
    return found
