"""Tags an archive on a Ray cluster from Python: python cluster_job.py VIDEOS OUT [MODEL].

Run it on a machine of the cluster, or submit it with `ray job submit`. VIDEOS and OUT may be addresses of buckets. When
it was interrupted, run it again: it continues. It ends with status 3 if videos could not be read, as `vtag run` does.
"""

import os
import sys

from jobs import RunConfig, make_plan, run_job


def main() -> None:
    """Tags what is new or changed, and prints what is in the result."""
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    videos, out, *model = sys.argv[1:]
    # Ray sets RAY_ADDRESS for submitted jobs.
    config = RunConfig((videos,), out, *model, address=os.environ.get("RAY_ADDRESS", "auto"))
    plan = make_plan(config)
    if plan.is_done:
        print(f"{out} is complete")
        return
    summary = run_job(plan)
    print(f"{out}: {summary.videos:,} videos, {summary.video_s / 3600:,.1f} hours, {summary.segments:,} segments")
    for count in summary.top_labels[:5]:
        print(f"{count.segments:10,} segments of {count.label}")
    for failure in summary.failures:
        print(f"{failure.path}: {failure.reason}", file=sys.stderr)
    if summary.failures:
        sys.exit(3)


if __name__ == "__main__":
    main()
