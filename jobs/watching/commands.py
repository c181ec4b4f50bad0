"""Runs a command when a label begins."""

import os
import shlex
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from jobs.watching.smoother import Moment
from tagger.errors import InputError, one_line

MOST = 4
"""Commands that may run at a time. Further ones are left out, so that a command that hangs does no harm."""

STDERR = 2


@dataclass(frozen=True)
class Failed:
    """A command that could not be run, or was left out, or segments that cannot be written now, and why."""

    reason: str


class Commands:
    """Runs ``command`` at each moment that begins one of ``labels``. The picture never waits for it.

    The command is split into words as a shell would, and run without a shell, unless ``in_shell``. It finds the moment
    in its environment: VTAG_SOURCE, VTAG_LABEL, VTAG_CONFIDENCE, VTAG_START_S and VTAG_TIME. Its output goes to
    standard error. Raises InputError for a command that cannot be split.
    """

    def __init__(self, command: str, labels: Collection[str], source: str, *, in_shell: bool = False):
        self._labels = frozenset(labels)
        self._source = source
        self._shell = in_shell
        try:
            self._command: str | list[str] = command if in_shell else shlex.split(command)
        except ValueError as error:
            raise InputError(f"--exec {one_line(command)} is no command: {str(error).lower()}") from None
        if not self._command:
            raise InputError("--exec has an empty command")
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.started = 0

    def begin(self, moment: Moment) -> Failed | None:
        """Runs the command if the moment has one of the labels. Returns why it could not, if it could not."""
        if moment.label is None or moment.label not in self._labels:
            return None
        if sum(process.poll() is None for _, process in self._running) >= MOST:
            return Failed(f"the command for {moment.label} was left out: {MOST} commands are still running")
        environment = {
            **os.environ,
            "VTAG_SOURCE": self._source,
            "VTAG_LABEL": moment.label,
            "VTAG_CONFIDENCE": f"{moment.confidence:.4f}",
            "VTAG_START_S": f"{moment.start_s:.3f}",
            "VTAG_TIME": moment.started_at.isoformat(timespec="milliseconds"),
        }
        try:
            process = subprocess.Popen(
                self._command,
                shell=self._shell,
                stdin=subprocess.DEVNULL,
                stdout=STDERR,
                env=environment,
                # Ctrl-C in the terminal must reach only this process.
                process_group=0,
            )
        except (OSError, ValueError) as error:
            why = str(getattr(error, "strerror", None) or error).lower()
            return Failed(f"the command for {moment.label} cannot be run: {why}")
        self.started += 1
        self._running.append((moment.label, process))
        return None

    def failures(self) -> Failed | None:
        """Forgets the commands that have ended. Returns those that failed, if any did."""
        ended = [(label, process) for label, process in self._running if process.poll() is not None]
        self._running = [(label, process) for label, process in self._running if process.returncode is None]
        bad = [
            f"the command for {label} ended with exit status {process.returncode}"
            for label, process in ended
            if process.returncode
        ]
        return Failed("; ".join(bad)) if bad else None
