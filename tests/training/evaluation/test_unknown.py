"""The scores for unknown footage agree with counting pairs of examples."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.errors import DataSetError
from tagger.ood import OODCalibration, energies_of
from tests.training.synthetic import class_names, predictions
from training.data.data_set import LabelledClip
from training.evaluation.evaluate import Predictions, judge
from training.evaluation.unknown import THRESHOLD, WindowLogits, score_unknown


def random_logits(clips: int, shift: float) -> WindowLogits:
    """Logits of four classes for clips of one to three windows; ``shift`` is added to those of the first class."""
    random = np.random.default_rng(clips)
    videos = np.repeat(np.arange(clips), random.integers(1, 4, clips))
    logits = random.normal(0, 1, (len(videos), 4))
    logits[:, 0] += shift
    return WindowLogits(logits.astype(np.float32), videos)


def share_of_pairs(known: np.ndarray, unknown: np.ndarray) -> float:
    return float((unknown[:, None] > known).mean())


def test_the_auroc_is_the_share_of_pairs_in_which_the_unknown_one_has_the_higher_energy() -> None:
    known, unknown = random_logits(40, 2.0), random_logits(30, 0.0)
    scores = score_unknown(("Third",), known, unknown, None)
    by_window = [energies_of(footage.logits) for footage in (known, unknown)]
    by_video = [
        np.array([energies[footage.videos == video].mean() for video in np.unique(footage.videos)])
        for footage, energies in zip((known, unknown), by_window, strict=True)
    ]
    assert scores.windows.auroc == pytest.approx(share_of_pairs(*by_window))
    assert scores.videos.auroc == pytest.approx(share_of_pairs(*by_video))
    assert 0.6 < scores.windows.auroc < 1
    assert (scores.videos.known, scores.videos.unknown) == (40, 30)
    assert (scores.caught, scores.lost) == (None, None)


def test_caught_and_lost_windows_are_counted_at_the_threshold() -> None:
    known, unknown = random_logits(40, 2.0), random_logits(30, 0.0)
    ood = OODCalibration.fit(random_logits(60, 2.0).logits)
    scores = score_unknown(("Third",), known, unknown, ood)
    assert scores.caught is not None and scores.caught > 0
    assert scores.caught == np.mean(ood.score(unknown.logits) > THRESHOLD)
    assert scores.lost == np.mean(ood.score(known.logits) > THRESHOLD)
    assert scores.to_json()["threshold"] == THRESHOLD


def with_unknown(known: Predictions) -> Predictions:
    """Adds a clip of a class that the model does not know to ``known``."""
    clip = LabelledClip(Path("clips/Other/o.mp4"), "Other", "g", "folder")
    videos = np.concatenate([known.videos, [len(known.clips)]])
    return replace(
        known, clips=(*known.clips, clip), logits=np.concatenate([known.logits, known.logits[:1] * 0]), videos=videos
    )


def test_unknown_clips_change_no_other_score() -> None:
    known = predictions(class_names(3))
    judged = judge(with_unknown(known))
    assert judged.unknown is not None and judged.unknown.classes == ("Other",)
    assert replace(judged, unknown=None) == judge(known)
    assert "unknown" in judged.to_json() and "unknown" not in judge(known).to_json()
    assert all(clip.label != "Other" for clip in judged.predictions.clips)


def test_unknown_clips_alone_cannot_be_judged() -> None:
    everything = with_unknown(predictions(class_names(3)))
    with pytest.raises(DataSetError, match="classes that the model knows could be read"):
        judge(everything.of([everything.clips[-1]]))
