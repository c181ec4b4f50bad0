"""Finished videos made up for the tests of what becomes of them."""

from jobs.job import Video
from jobs.results import FinishedVideo
from tagger.clips import VideoEnd
from tagger.video.choose import Choice
from tagger.video.facts import VideoFacts

FACTS = VideoFacts("mp4", "h264", 96, 64, 30.0, 4.0, 120, 0.0, 1 / 15360, 0, False)


def make_finished(path: str, labels: str = "ab", *, mtime_ns: int = 1_700_000_000_123_456_789) -> FinishedVideo:
    """A video with one two-second segment for each letter of ``labels``; one without segments failed."""
    segments = tuple(
        {
            "window": i,
            "start_s": 2.0 * i,
            "end_s": 2.0 * i + 2.0,
            "top_labels": [label, "other"],
            "top_confidences": [0.75, 0.25],
        }
        for i, label in enumerate(labels)
    )
    end = (
        VideoEnd("ok", len(labels), FACTS, Choice("decord"), decode_s=0.5)
        if labels
        else VideoEnd("failed", 0, error_kind="empty", error=f"{path} is empty (0 bytes)")
    )
    return FinishedVideo(Video(path, 1000, mtime_ns), segments, end, predict_s=0.25)
