"""``vtag verify`` and ``vtag compact``, run from the command line."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result

from jobs.cli import main
from tests.click_runner import CliRunner
from tests.jobs.result.finished import EMBEDDED, make_finished, publish_to


def vtag(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    for name in ("b", "a"):
        publish_to(tmp_path / "result", [make_finished(f"/v/{name}.mp4", "xy")])
    return tmp_path / "result"


def test_verify_says_in_one_line_that_a_result_is_complete(result: Path) -> None:
    done = vtag("verify", str(result))
    assert done.exit_code == 0
    assert done.stdout == f"{result}: 2 videos, 4 segments, complete, no duplicates, from actions38 (abc123)\n"
    found = json.loads(vtag("verify", str(result), "--json").stdout)
    assert (found["videos"], found["segments"], found["problem"]) == (2, 4, None)


def test_verify_says_that_a_result_has_embeddings_and_compact_keeps_them(tmp_path: Path) -> None:
    for name in ("b", "a"):
        publish_to(tmp_path / "result", [make_finished(f"/v/{name}.mp4", "xy")], identity=EMBEDDED)
    assert vtag("compact", str(tmp_path / "result")).exit_code == 0
    line = "2 videos, 4 segments with embeddings, complete, no duplicates, from actions38 (abc123)"
    assert vtag("verify", str(tmp_path / "result")).stdout == f"{tmp_path / 'result'}: {line}\n"


def test_verify_says_in_one_line_what_is_wrong_and_exits_with_1(result: Path) -> None:
    part = result / "tags/part-00000.parquet"
    pq.write_table(pq.read_table(part).slice(1), part)
    done = vtag("verify", str(result))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"vtag: {result}: ")
    assert done.stderr.count("\n") == 1
    assert json.loads(vtag("verify", str(result), "--json").stdout)["problem"]


def test_verify_without_a_result_is_an_error(tmp_path: Path) -> None:
    done = vtag("verify", str(tmp_path / "none.parquet"))
    assert (done.exit_code, done.stderr) == (1, f"vtag: there is no result at {tmp_path}/none.parquet\n")


def test_compact_merges_in_place_or_into_one_file(result: Path) -> None:
    done = vtag("compact", str(result), "--out", str(result.with_name("t.parquet")))
    assert (done.exit_code, done.stdout) == (0, f"{result.with_name('t.parquet')}: 2 videos, 4 segments\n")
    assert vtag("compact", str(result)).exit_code == 0
    assert len(list((result / "tags").iterdir())) == 1
    for path in (result, result.with_name("t.parquet")):
        assert vtag("verify", str(path)).exit_code == 0
