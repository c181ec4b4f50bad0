"""The summary of a made-up job, for tests of what commands print."""

from jobs.result.publish import LabelCount
from jobs.tagging.summary import Summary

GOOD = Summary(
    out="t.parquet",
    videos_out="t.videos.parquet",
    model="actions38",
    sampling="16×4 @ 30 fps",
    videos=2,
    ok=2,
    partial=0,
    failed=0,
    new=2,
    changed=0,
    retried=0,
    touched=0,
    moved=0,
    kept=0,
    gone=0,
    pruned=0,
    unknown=0,
    unlisted=(),
    left_out={},
    video_s=60.0,
    segments=29,
    tagged_s=60.0,
    windows_done=29,
    elapsed_s=20.0,
    tagging_s=10.0,
    top_labels=(LabelCount("Biking", 29, 60.0),),
)
