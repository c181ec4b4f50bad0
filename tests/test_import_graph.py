"""Imports point one way, from floor to floor, and no two modules of a package have the same name."""

from pathlib import Path

import pytest

from tests.import_graph import (
    MAX_MODULES,
    crowded_folders,
    import_cycles,
    import_graph,
    modules,
    printing_modules,
    repeated_names,
    slow_modules,
    upward_imports,
)

ROOT = Path(__file__).parents[1]
FILES = modules(ROOT)

FLOORS = {"tagger": (("errors",), ("video",), ("clips", "segments")), "jobs": (("result",), ("tagging",), ("cli",))}


def test_no_module_imports_from_a_higher_floor() -> None:
    assert not upward_imports(import_graph(FILES))


def test_no_imports_form_a_cycle() -> None:
    assert not import_cycles(import_graph(FILES))


def test_no_folder_is_crowded() -> None:
    assert not crowded_folders(FILES)


def test_no_package_has_two_modules_of_one_name() -> None:
    assert not repeated_names(FILES)


def test_slow_libraries_are_imported_only_by_functions_that_use_them() -> None:
    assert not slow_modules(FILES)


def test_only_the_command_line_prints() -> None:
    assert not printing_modules(FILES)


def write(root: Path, sources: dict[str, str]) -> dict[str, Path]:
    for name, source in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return modules(root, ("tagger", "jobs"))


@pytest.mark.parametrize(
    ("path", "source", "line"),
    [
        ("tagger/errors.py", "from tagger.video import reader", "tagger.errors imports tagger.video.reader"),
        ("tagger/clips.py", "import tagger.segments", "tagger.clips imports tagger.segments"),
        ("tagger/video/reader.py", "def f():\n    from jobs.result.lock import Lock", "imports jobs.result.lock"),
        ("jobs/result/lock.py", "from jobs.tagging.run import run", "jobs.result.lock imports jobs.tagging.run"),
    ],
)
def test_an_import_that_runs_upwards_is_found(tmp_path: Path, path: str, source: str, line: str) -> None:
    names = ("tagger/errors.py", "tagger/clips.py", "tagger/segments.py", "tagger/video/reader.py")
    files = write(tmp_path, dict.fromkeys((*names, "jobs/result/lock.py", "jobs/tagging/run.py"), "") | {path: source})
    (found,) = upward_imports(import_graph(files), FLOORS)
    assert line in found


def test_imports_that_run_downwards_are_allowed(tmp_path: Path) -> None:
    sources = {
        "tagger/errors.py": "",
        "tagger/video/reader.py": "import tagger.errors",
        "tagger/video/choose.py": "from tagger.video.reader import Reader",
        "jobs/cli/run.py": "from jobs.result.lock import Lock",
        "jobs/result/lock.py": "from tagger.video import choose",
    }
    assert not upward_imports(import_graph(write(tmp_path, sources)), FLOORS)


def test_a_module_on_no_floor_is_reported(tmp_path: Path) -> None:
    files = write(tmp_path, {"tagger/errors.py": "", "tagger/new.py": "import tagger.errors"})
    with pytest.raises(AssertionError, match=r"tagger\.new is on no floor"):
        upward_imports(import_graph(files), FLOORS)


def test_an_import_cycle_is_found(tmp_path: Path) -> None:
    sources = {
        "tagger/a.py": "from tagger.b import x",
        "tagger/b.py": "def f():\n    import tagger.c",
        "tagger/c.py": "if TYPE_CHECKING:\n    from tagger import a",
    }
    (found,) = import_cycles(import_graph(write(tmp_path, sources)))
    assert all(f"tagger.{name} imports" in found for name in "abc")


def test_a_crowded_folder_is_found(tmp_path: Path) -> None:
    sources = {f"jobs/result/m{number}.py": "" for number in range(MAX_MODULES)} | {"jobs/result/__init__.py": ""}
    assert not crowded_folders(write(tmp_path, sources))
    (found,) = crowded_folders(write(tmp_path, {"jobs/result/one_more.py": ""}))
    assert found.endswith(f"result holds {MAX_MODULES + 1} modules")


def test_two_modules_of_one_name_are_found_in_one_package_only(tmp_path: Path) -> None:
    sources = {"jobs/a/report.py": "", "jobs/cli/report.py": "", "tagger/report.py": "", "jobs/a/__init__.py": ""}
    assert not repeated_names(write(tmp_path, sources))
    sources = {"jobs/b/report.py": "", "jobs/b/__init__.py": ""}
    assert repeated_names(write(tmp_path, sources)) == ["jobs.a.report and jobs.b.report"]


def test_modules_that_always_import_a_slow_library_are_found(tmp_path: Path) -> None:
    sources = {
        "tagger/a.py": "from sklearn.model_selection import GroupKFold",
        "tagger/b.py": "def f():\n    import sklearn",
    }
    assert slow_modules(write(tmp_path, sources)) == ["tagger.a"]


def test_modules_that_print_are_found_outside_the_command_line(tmp_path: Path) -> None:
    sources = {
        "jobs/cli/run.py": "import click\nprint(1)",
        "jobs/result/lock.py": "print(1)",
        "tagger/a.py": "def f():\n    from rich.console import Console",
        "tagger/b.py": "blueprint(1)",
    }
    assert printing_modules(write(tmp_path, sources)) == ["jobs.result.lock", "tagger.a"]
