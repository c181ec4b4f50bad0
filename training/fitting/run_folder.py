"""The folder of a training run: its settings, metrics, TensorBoard logs and checkpoints.

::

    settings.json     the settings of the training, a hash of its clips, and whether it is finished
    metrics.jsonl     one line for each epoch
    tensorboard/      the same for TensorBoard
    checkpoints/      one file for each stage, to resume from; removed when the run is finished
    cache/            decoded clips and features, unless --cache names a folder; removed when the run is finished
    ray/              the state of Ray Train; removed when the run is finished
    model.safetensors the model file
    report/           what ``vtag evaluate --out`` writes, for the test clips
    folds/, random/   run folders of trainings whose models are only evaluated
    error-*.txt       the full stories of unexpected errors; removed when the run is finished
    .lock, .held      lock files of the process that trains and of the command
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tagger.errors import OutputError
from training.fitting.epochs import Epoch

SETTINGS, METRICS, MODEL = "settings.json", "metrics.jsonl", "model.safetensors"
TENSORBOARD, CHECKPOINTS, CACHE, RAY = "tensorboard", "checkpoints", "cache", "ray"
FOLDS, RANDOM, REPORT, LOCK, HELD = "folds", "random", "report", ".lock", ".held"
KIND = "a training run of vtag"


class RunFolder:
    """The folder ``path`` of one training run. ``open`` begins or resumes it."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    @contextmanager
    def open(cls, path: Path, settings: Mapping[str, Any], *, restart: bool = False) -> Iterator["RunFolder"]:
        """Begins a run with ``settings``, or resumes an unfinished one with the same settings.

        The folder is locked against other trainings. ``restart`` discards an unfinished run. Raises OutputError when
        the folder cannot be written, is in use, holds other files, or has an unfinished run with other settings.
        """
        folder = cls(path)
        # Locked before anything is removed or written, because another training may just have begun here.
        with folder._locked(LOCK):
            try:
                folder._begin(json.loads(json.dumps(settings)), restart)
            except OSError as error:
                raise folder._problem(error) from error
            yield folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Locks the folder for a command that makes several trainings in it, one after the other.

        The lock is separate from that of ``open``: it keeps out other commands, not the trainings of this one. Makes
        the folder if it does not exist. Raises OutputError when it cannot be written, is in use, or holds other files.
        """
        with self._locked(HELD):
            yield

    @property
    def cache(self) -> Path:
        """The folder of the clip cache, which is removed when the run is finished."""
        return self.path / CACHE

    @property
    def report(self) -> Path:
        """The folder of the report, which is written at the end."""
        return self.path / REPORT

    @property
    def model(self) -> Path:
        """The model file."""
        return self.path / MODEL

    def checkpoint(self, stage: str) -> Path:
        """Returns the checkpoint file of the stage of that name."""
        return self.path / CHECKPOINTS / f"{stage}.pt"

    def finish(self) -> None:
        """Marks the run as finished, and removes what only an unfinished one needs. Raises OutputError."""
        before = self._read()
        if before is None:
            raise OutputError(f"the run folder {self.path} was removed during the training: its settings are missing")
        try:
            self._write(before["settings"], finished=True)
        except OSError as error:
            raise self._problem(error) from error
        self._clear((CHECKPOINTS, CACHE, RAY))
        for story in self.path.glob("error-*.txt"):
            story.unlink(missing_ok=True)
        for path in (self.path / RANDOM, *(self.path / FOLDS).glob("*")):
            trial = RunFolder(path)
            if trial._read() is not None:
                trial.finish()

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        try:
            is_run = self._read() is not None
            if not is_run and self.path.exists() and not all(_is_leftover(file.name) for file in self.path.iterdir()):
                raise OutputError(f"{self.path} is no folder of a training run; name another with --run-folder")
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / name).open("w")
        except OSError as error:
            raise self._problem(error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(f"{self.path} is in use by another vtag train; wait for its end") from None
            except OSError:
                # The file system has no locks: users must not start two trainings in the folder.
                pass
            yield

    def _begin(self, settings: dict[str, Any], restart: bool) -> None:
        before = self._read()
        if before is not None and not before["finished"] and not restart:
            if not set(settings) <= set(before["settings"]):
                raise OutputError(
                    f"{self.path} has an unfinished training of another version of vtag, or with another --split; give "
                    "--restart to begin anew, or name another folder with --run-folder"
                )
            if different := _differences(before["settings"], settings):
                raise OutputError(
                    f"{self.path} has an unfinished training with other settings ({different}); repeat its command to "
                    "finish it, or give --restart to begin anew"
                )
        else:
            if before is not None:
                self._clear((CHECKPOINTS, TENSORBOARD, RAY, FOLDS, RANDOM, REPORT))
                (self.path / METRICS).unlink(missing_ok=True)
            self._write(settings, finished=False)
        (self.path / CHECKPOINTS).mkdir(exist_ok=True)

    def _clear(self, names: Sequence[str]) -> None:
        for name in names:
            shutil.rmtree(self.path / name, ignore_errors=True)

    def _problem(self, error: OSError) -> OutputError:
        reason = (error.strerror or str(error)).lower()
        return OutputError(f"cannot write the run folder {self.path}: {reason}; name another with --run-folder")

    def _read(self) -> dict[str, Any] | None:
        """Reads ``settings.json``; None when it is missing or is not that of a training run."""
        try:
            values = json.loads((self.path / SETTINGS).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        is_run = isinstance(values, dict) and values.get("is") == KIND and isinstance(values.get("settings"), dict)
        return values if is_run and isinstance(values.get("finished"), bool) else None

    def _write(self, settings: Mapping[str, Any], *, finished: bool) -> None:
        content = json.dumps({"is": KIND, "finished": finished, "settings": settings}, indent=1)
        _replace(self.path / SETTINGS, content + "\n")


def _is_leftover(name: str) -> bool:
    """Checks whether a training that ended before it wrote its settings may have left a file of this name."""
    return name in (LOCK, HELD) or name.startswith((f".{SETTINGS}.", "error-"))


class Recorder:
    """Writes epochs to a run folder. It rewrites all of them each time: a resumed run records no epoch twice."""

    def __init__(self, folder: RunFolder):
        from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

        self._file = folder.path / METRICS
        self._epochs: list[Epoch] = []
        logs = folder.path / TENSORBOARD
        shutil.rmtree(logs, ignore_errors=True)
        self._writer = SummaryWriter(str(logs))

    def record(self, epoch: Epoch) -> None:
        """Adds a finished epoch."""
        self._epochs.append(epoch)
        _replace(self._file, "".join(f"{json.dumps(asdict(epoch))}\n" for epoch in self._epochs))
        for name, value in _scalars(epoch).items():
            self._writer.add_scalar(f"{epoch.stage}/{name}", value, epoch.number)
        self._writer.flush()

    def close(self) -> None:
        """Closes the TensorBoard log."""
        self._writer.close()


def read_metrics(folder: Path) -> tuple[Epoch, ...]:
    """Reads the epochs of the run folder ``folder``."""
    lines = (folder / METRICS).read_text("utf-8").splitlines()
    return tuple(Epoch(**json.loads(line)) for line in lines)


def _scalars(epoch: Epoch) -> dict[str, float]:
    values = asdict(epoch)
    return {name: value for name, value in values.items() if name not in ("number", "of", "stage")}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> str:
    """Lists the settings that differ, with the old and the new value of each."""
    found: list[str] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += filter(None, [_differences(old, new, f"{prefix}{name}.")])
        elif old != new:
            found.append(f"{prefix}{name}: {_short(old)}, now {_short(new)}")
    return "; ".join(found)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else f"{text[:36]} ..."


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
