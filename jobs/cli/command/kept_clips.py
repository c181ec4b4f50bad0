"""The folder of ``--cache``, in which decoded clips and features are kept."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.cli.terminal.wording import count

if TYPE_CHECKING:
    from training.inputs.clip_cache import ClipCache


def open_cache(folder: Path | None, gigabytes: float, console: Console) -> "ClipCache | None":
    """Opens the folder of ``--cache`` for at most ``gigabytes`` of 10^9 bytes; None without one."""
    from training.inputs.clip_cache import ClipCache

    if folder is None:
        return None
    remove_outdated_clips(folder, console)
    return ClipCache(folder, round(gigabytes * 10**9))


def remove_outdated_clips(folder: Path, console: Console) -> None:
    """Removes clips of other versions of vtag from the folder of ``--cache``, and says so."""
    from training.inputs.clip_cache import remove_outdated

    if removed := remove_outdated(folder):
        console.print(
            f"Removed {count(removed, 'file')} from {folder}: another version of vtag, which computes other "
            "pixels, wrote them. The clips are decoded again.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
