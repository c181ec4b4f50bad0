"""The scripts of benchmarks, which no test runs, still find what they import."""

import importlib
from pathlib import Path

import pytest

SCRIPTS = sorted(path.stem for path in (Path(__file__).parent / "benchmarks").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_can_be_imported(script: str) -> None:
    importlib.import_module(f"tests.benchmarks.{script}")
