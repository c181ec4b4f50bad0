"""The totals of a result, or of one of its parts: kept beside the rows, so that a summary needs no rows."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

TOTALS = "vtag.totals"
"""The key of the totals in the metadata of a file of tags that is a whole result. A folder has them in its manifest."""


@dataclass
class Totals:
    """Numbers of videos, by status too, and of segments; their seconds; segments and seconds by first label."""

    videos: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    segments: int = 0
    video_s: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    label_s: Counter[str] = field(default_factory=Counter)

    def add_videos(self, videos: pa.Table) -> None:
        """Adds rows of VIDEOS_SCHEMA."""
        self.videos += videos.num_rows
        self.statuses.update({row["values"]: row["counts"] for row in pc.value_counts(videos["status"]).to_pylist()})
        self.video_s += pc.sum(videos["duration_s"]).as_py() or 0.0

    def add_tags(self, tags: pa.Table) -> None:
        """Adds rows of TAGS_SCHEMA."""
        self.segments += tags.num_rows
        table = pa.table({"label": tags["label"], "seconds": pc.subtract(tags["end_s"], tags["start_s"])})
        for row in table.group_by("label").aggregate([("seconds", "count"), ("seconds", "sum")]).to_pylist():
            self.labels[row["label"]] += row["seconds_count"]
            self.label_s[row["label"]] += row["seconds_sum"]

    def add_totals(self, others: "Totals") -> None:
        """Adds the totals of other videos."""
        self.videos += others.videos
        self.statuses.update(others.statuses)
        self.segments += others.segments
        self.video_s += others.video_s
        self.labels.update(others.labels)
        self.label_s.update(others.label_s)

    def is_same(self, others: "Totals") -> bool:
        """Returns whether all totals are equal. Seconds may be added in another order, so they are rounded."""

        def rounded(totals: Totals) -> tuple[object, ...]:
            label_s = {label: round(seconds, 3) for label, seconds in totals.label_s.items()}
            return totals.videos, totals.statuses, totals.segments, round(totals.video_s, 3), totals.labels, label_s

        return rounded(self) == rounded(others)

    def with_new_tags(self) -> "Totals":
        """Returns the totals of the same videos without those of their tags."""
        return Totals(self.videos, self.statuses.copy(), video_s=self.video_s)

    def to_json(self) -> dict[str, Any]:
        """Returns a dict for JSON. Each label has its numbers of segments and of seconds."""
        labels = {label: [count, self.label_s[label]] for label, count in sorted(self.labels.items())}
        return {
            "videos": self.videos,
            "statuses": dict(sorted(self.statuses.items())),
            "segments": self.segments,
            "video_s": self.video_s,
            "labels": labels,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Totals":
        """Restores the result of ``to_json``. Raises KeyError, TypeError or ValueError."""
        labels = {str(label): (int(count), float(seconds)) for label, (count, seconds) in values["labels"].items()}
        return cls(
            int(values["videos"]),
            Counter({str(status): int(count) for status, count in values["statuses"].items()}),
            int(values["segments"]),
            float(values["video_s"]),
            Counter({label: count for label, (count, _) in labels.items()}),
            Counter({label: seconds for label, (_, seconds) in labels.items()}),
        )

    def to_metadata(self) -> dict[str, str]:
        """Returns an entry for the metadata of a file of tags."""
        return {TOTALS: json.dumps(self.to_json())}

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> "Totals | None":
        """Restores the totals from the metadata of a file of tags. None when older versions of vtag wrote the file."""
        text = (metadata or {}).get(TOTALS.encode())
        return None if text is None else cls.from_json(json.loads(text))
