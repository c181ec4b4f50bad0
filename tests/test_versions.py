"""The oldest tested version of each dependency is the lower bound in pyproject.toml."""

import re
import tomllib

import pytest

from jobs.cluster import ray_versions
from tests.private_names import ROOT


def test_each_lower_bound_is_the_version_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (ROOT / "tests/lowest.txt").read_text("utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    declared = {}
    for dependency in project["dependencies"]:
        found = re.match(r"([\w-]+)[^>]*>=([\d.]+)", dependency)
        assert found is not None, dependency
        declared[found[1]] = found[2]
    for name in ("decord", "pytorchvideo"):
        # Not pinned: their newest versions are of 2021 and 2022.
        del declared[name]

    def numbers(version: str) -> list[int]:
        return [*map(int, version.split(".")), 0, 0][:3]

    assert {name.lower(): numbers(version) for name, version in tested.items()} == {
        name.lower(): numbers(version) for name, version in declared.items()
    }


def test_a_ray_without_options_of_tasks_gets_no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_versions, "HAS_REMOTE_ARGUMENTS", True)
    assert ray_versions.retries(max_retries=3) == {"max_retries": 3}
    monkeypatch.setattr(ray_versions, "HAS_REMOTE_ARGUMENTS", False)
    assert ray_versions.retries(max_retries=3) == {}
