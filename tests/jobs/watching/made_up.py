"""Made-up segments of a live picture."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from tagger import LiveSegment, Sampling

LABELS = ("Biking", "Diving", "Swing")

SAMPLING = Sampling(15, 4, hop_s=1.0)
"""Windows of two seconds that begin every second."""

BEGUN_AT = datetime(2026, 11, 30, 12, tzinfo=UTC)


def made_up(index: int, probabilities: Sequence[float], sampling: Sampling = SAMPLING, top_k: int = 3) -> LiveSegment:
    """Returns the segment of window ``index`` with a probability for each of LABELS."""
    best = np.argsort(-np.array(probabilities), kind="stable")[:top_k]
    names = tuple(LABELS[number] for number in best)
    confidences = tuple(float(np.float32(probabilities[number])) for number in best)
    start_s = sampling.start_s(index)
    end_s = start_s + sampling.window_s
    return LiveSegment(
        index=index,
        start_s=start_s,
        end_s=end_s,
        label=names[0],
        confidence=confidences[0],
        top_labels=names,
        top_confidences=confidences,
        ended_at=BEGUN_AT + timedelta(seconds=end_s),
        latency_s=0.25,
        model_s=0.125,
    )


def labelled(*labels: str, first: int = 0) -> list[LiveSegment]:
    """Returns consecutive segments with these labels."""
    return [
        made_up(first + number, [0.8 if name == label else 0.1 for name in LABELS])
        for number, label in enumerate(labels)
    ]
