"""The tagging job on Ray, its results, and the command line.

``run_job(make_plan(RunConfig(("/videos",), Path("tags.parquet"))))`` does what ``vtag run`` does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.archive.listing import find_videos
    from jobs.archive.video import Failure, Video
    from jobs.errors import Interrupted, JobError
    from jobs.result.publish import LabelCount
    from jobs.tagging.dry_run import DryRun, dry_run
    from jobs.tagging.plan import Plan, make_plan
    from jobs.tagging.run import run_job
    from jobs.tagging.run_config import RunConfig
    from jobs.tagging.summary import Progress, Summary

__all__ = [
    "DryRun",
    "Failure",
    "Interrupted",
    "JobError",
    "LabelCount",
    "Plan",
    "Progress",
    "RunConfig",
    "Summary",
    "Video",
    "dry_run",
    "find_videos",
    "make_plan",
    "run_job",
]

_LAZY = {
    "Failure": "archive.video",
    "Video": "archive.video",
    "Interrupted": "errors",
    "JobError": "errors",
    "LabelCount": "result.publish",
    "RunConfig": "tagging.run_config",
    "Progress": "tagging.summary",
    "Summary": "tagging.summary",
    "find_videos": "archive.listing",
    "DryRun": "tagging.dry_run",
    "Plan": "tagging.plan",
    "dry_run": "tagging.dry_run",
    "make_plan": "tagging.plan",
    "run_job": "tagging.run",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: ``vtag --help`` is quick, since it loads no pyarrow."""
    if name in _LAZY:
        return getattr(import_module(f"jobs.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'jobs' has no attribute {name!r}")
