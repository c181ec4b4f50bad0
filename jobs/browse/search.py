"""Searches a result for the best moments of a label."""

import numpy as np
import pyarrow as pa

from jobs.browse.best_moments import best_moments
from jobs.browse.labels import find_label
from jobs.browse.segments import FinishedResult, Segments, read_labels, read_segments


def search_label(
    finished: FinishedResult,
    wanted: str,
    top: int,
    *,
    one_per_video: bool = True,
    max_ood: float | None = None,
) -> tuple[str, pa.Table]:
    """Returns the label that ``wanted`` names, and its ``top`` best moments, best first.

    The columns are video, segment, start_s, end_s, label and confidence. A segment counts when the label is among its
    ``top_labels``, also if it is not the best of them. ``max_ood``: the highest OOD score of a moment. Raises
    InputError for an unknown label, and OutputError as ``read_segments``.
    """
    label = find_label(wanted, read_labels(finished), finished.path)

    def confidences(segments: Segments) -> np.ndarray:
        return _confidences(segments, label)

    portions = read_segments(finished, top=True, ood=max_ood is not None)
    found = best_moments(portions, confidences, top, one_per_video=one_per_video, max_ood=max_ood)
    names = pa.array([label] * len(found), pa.string())
    found = found.rename_columns(["confidence" if name == "score" else name for name in found.column_names])
    return label, found.set_column(found.schema.get_field_index("label"), "label", names)


def _confidences(segments: Segments, label: str) -> np.ndarray:
    """Returns the confidence of ``label`` in each segment, ``[n] float32``; NaN where it is not among the best."""
    found = np.full(len(segments), np.nan, np.float32)
    top = segments.top
    if top is not None and label in segments.labels:
        entries = np.flatnonzero(top.label == segments.labels.index(label))
        found[np.searchsorted(top.bounds, entries, side="right") - 1] = top.confidence[entries]
    return found
