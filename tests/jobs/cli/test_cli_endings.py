"""The line at the end of a command that an unexpected error has stopped, and the file with the full story."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from click.testing import Result

import jobs.cluster.ray_driver
import jobs.result.verify
import jobs.tagging.plan
import jobs.tagging.run
import jobs.training.ray_train
from jobs.cli import COMMANDS, main
from jobs.errors import WorkerError
from jobs.result.ledger import remove
from jobs.result.output import find_output
from tagger.errors import doing
from tests.click_runner import CliRunner

TRAIN_OPTIONS = ("--model", "cnn3d-lstm", "--val-groups", "2", "--test-groups", "3")


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fail(*_: object, **__: object) -> NoReturn:
    raise KeyError("deep down")


def raise_error(error: Exception) -> Callable[..., NoReturn]:
    def raises(*_: object, **__: object) -> NoReturn:
        raise error

    return raises


def ending_of(done: Result) -> tuple[str, str]:
    """Returns the last line, without the path of the story, and the story. Checks that no exception is named."""
    assert done.exit_code == 1
    assert not re.search(r"KeyError|deep down|Traceback", done.output), done.output
    line = done.stderr.splitlines()[-1]
    found = re.search(r"; the full story is in (\S+\.txt)", line)
    assert found, line
    return line.replace(found[1], "FILE"), Path(found[1]).read_text()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the job of ``vtag run`` fail after its plan."""
    driver = SimpleNamespace(start=lambda: None, close=lambda: None)
    monkeypatch.setattr(jobs.cluster.ray_driver, "RayDriver", lambda *_, **__: driver)
    monkeypatch.setattr(jobs.tagging.plan, "make_plan", lambda *_: SimpleNamespace(todo=(), only=None))
    monkeypatch.setattr(jobs.tagging.run, "run_job", fail)


def test_run_says_what_it_was_doing_where_the_story_is_and_what_is_safe(
    job: None, temporary: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t.parquet"
    line, story = ending_of(vtag("run", "/v", "--out", out))
    assert line == (
        f"vtag: stopped by an unexpected error while tagging videos for {out}; the full story is in FILE "
        f"(please report it); the result at {out} is safe: finished videos are kept, and the same command continues"
    )
    assert "Traceback (most recent call last)" in story and "KeyError: 'deep down'" in story
    assert [file.name[:11] for file in temporary.iterdir()] == ["vtag-error-"]


def test_the_story_is_in_the_run_folder_until_the_job_is_finished(job: None, temporary: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "t.parquet.run"
    run_folder.mkdir()
    ending_of(vtag("run", "/v", "--out", tmp_path / "t.parquet"))
    (story,) = run_folder.iterdir()
    assert story.name.startswith("error-") and not list(temporary.iterdir())
    remove(find_output(tmp_path / "t.parquet").run_folder)
    assert not story.exists()


def test_the_story_is_printed_when_no_file_can_be_written(
    job: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    done = vtag("run", "/v", "--out", tmp_path / "t.parquet")
    assert "KeyError: 'deep down'" in done.stderr
    assert "; the full story is above (please report it); the result at " in done.stderr.splitlines()[-1]


def test_verbose_prints_the_traceback_and_writes_no_file(job: None, temporary: Path, tmp_path: Path) -> None:
    done = vtag("run", "/v", "--out", tmp_path / "t.parquet", "--verbose")
    assert "KeyError: 'deep down'" in done.stderr
    assert "; the full story is above (please report it); " in done.stderr.splitlines()[-1]
    assert not list(temporary.iterdir())


def test_a_plan_that_fails_names_the_input(temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.archive.listing.local_videos", fail)
    line, _ = ending_of(vtag("run", tmp_path, "--out", tmp_path / "t.parquet", "--dry-run"))
    assert line == (
        f"vtag: stopped by an unexpected error while listing {tmp_path}; the full story is in FILE (please report it); "
        "nothing was changed"
    )


def test_a_failure_of_a_worker_has_the_log_of_ray_in_its_story(
    job: None, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = WorkerError("tagging stopped by an unexpected error while reading /v/a.mp4")
    error.log, error.is_unexpected = "one\ntwo\n", True
    monkeypatch.setattr(jobs.tagging.run, "run_job", raise_error(error))
    line, story = ending_of(vtag("run", "/v", "--out", tmp_path / "t.parquet"))
    assert line.startswith(f"vtag: {error}; the full story is in FILE (please report it); the result at {tmp_path}")
    assert story.endswith("\nThe log of Ray and its workers:\none\ntwo\n")
    error.is_unexpected = False
    assert "report" not in ending_of(vtag("run", "/v", "--out", tmp_path / "t.parquet"))[0]


def test_train_says_that_epochs_are_kept_and_its_story_does_not_block_the_next_training(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("a", "b"):
        for group in "123":
            clip = tmp_path / "clips" / label / group / "clip.mp4"
            clip.parent.mkdir(parents=True)
            clip.write_text(label + group)
    monkeypatch.setattr(jobs.training.ray_train, "train_with_ray", fail)
    out = tmp_path / "m.safetensors"
    for _ in range(2):
        line, story = ending_of(vtag("train", tmp_path / "clips", "--out", out, *TRAIN_OPTIONS))
        assert line == (
            f"vtag: stopped by an unexpected error while training {out}; the full story is in FILE (please report it); "
            "finished epochs are kept, and the same command continues"
        )
        assert "KeyError: 'deep down'" in story
    assert list((tmp_path / "m.run").glob("error-*.txt"))


def test_verify_promises_nothing(temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.result.verify, "verify", fail)
    line, _ = ending_of(vtag("verify", tmp_path / "t.parquet"))
    assert line == (
        f"vtag: stopped by an unexpected error while checking {tmp_path}/t.parquet; the full story is in FILE "
        "(please report it)"
    )


ARGUMENTS = {
    "run": ["v", "--out", "t.parquet"],
    "watch": ["v"],
    "demo": [],
    "verify": ["t"],
    "compact": ["t"],
    "events": ["t"],
    "search": ["t", "a"],
    "similar": ["t"],
    "clusters": ["t"],
    "uncertain": ["t"],
    "cut": ["t", "--label", "a", "--out", "clips"],
    "export": ["t", "--format", "csv"],
    "import": ["a.json"],
    "report": ["t", "--out", "t.html"],
    "view": ["t"],
    "teach": ["t", "marks.csv", "--out", "m.safetensors"],
    "relabel": ["t", "--model", "m", "--overwrite"],
    "probe": ["v"],
    "models": [],
    "train": [".", "--out", "m.safetensors"],
    "evaluate": ["m", "."],
    "compare": ["m", "n", "."],
    "bench": [],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_with_such_a_line(name: str, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command: Any = main.get_command(None, name)  # type: ignore[arg-type]
    monkeypatch.setattr(command, "callback", fail)
    line, story = ending_of(vtag(name, *ARGUMENTS[name]))
    assert line == (
        f"vtag: stopped by an unexpected error while running vtag {name}; the full story is in FILE (please report it)"
    )
    assert "KeyError: 'deep down'" in story


def test_the_first_note_of_an_error_counts() -> None:
    from tagger.errors import work_of

    with pytest.raises(KeyError) as caught, doing("listing", "/v"), doing("reading", "/v/a.mp4"):
        fail()
    assert work_of(caught.value) == "reading /v/a.mp4"


def test_an_error_of_the_system_without_a_file_says_what_vtag_was_doing(
    job: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.tagging.run, "run_job", raise_error(OSError(28, "No space left on device")))
    done = vtag("run", "/v", "--out", tmp_path / "t.parquet")
    assert done.stderr.splitlines()[-1] == f"vtag: tagging videos for {tmp_path}/t.parquet: no space left on device"
