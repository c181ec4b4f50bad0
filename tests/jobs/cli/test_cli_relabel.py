"""``vtag relabel``, run from the command line."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result

from jobs.cli import main
from tagger import ModelSource
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up_models import expected_tags, identity_of, write_model
from tests.jobs.result.finished import make_finished, publish_to


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def mine(tmp_path: Path) -> ModelSource:
    return write_model(tmp_path / "mine.safetensors", "Bd-")


@pytest.fixture(params=["tags.parquet", "tags"])
def tags(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    old = write_model(tmp_path / "old.safetensors", "ab")
    for name in ("a", "b"):
        publish_to(tmp_path / request.param, [make_finished(f"/v/{name}.mp4", "aab")], identity=identity_of(old))
    return tmp_path / str(request.param)


def labels(tags: Path) -> list[str]:
    found: list[str] = pq.read_table(tags if tags.suffix else tags / "tags")["label"].to_pylist()
    return found


def test_it_prints_the_labels_before_and_after_the_counts_and_the_next_commands(tags: Path, mine: ModelSource) -> None:
    done = vtag("relabel", tags, "--model", mine.file, "--overwrite")
    assert (done.exit_code, done.stderr) == (0, "")
    *table, events, run = done.stdout.splitlines()
    heading, *lines, last = [line.split() for line in table]
    assert heading == ["label", "before", "after"]
    counts = {label: (int(before), int(after)) for label, before, after in lines}
    after = labels(tags)
    assert counts == {"a": (4, 0), "b": (2, 0)} | {label: (0, after.count(label)) for label in set(after)}
    assert " ".join(last) == (f"{tags}: 2 videos, 6 segments, 6 with another label, from mine ({mine.hash[:12]})")
    assert events == f"Its events: vtag events {tags}"
    assert run == f"New videos: vtag run VIDEOS --model {mine.file} --out {tags}"


def test_json_has_the_same_figures(tags: Path, mine: ModelSource) -> None:
    new = tags.with_name(f"new{tags.suffix}")
    done = vtag("relabel", tags, "--model", mine.file, "--out", new, "--json")
    found = json.loads(done.stdout)
    counts = {row["label"]: (row["before"], row["after"]) for row in found.pop("labels")}
    assert counts["a"] == (4, 0) and sum(after for _, after in counts.values()) == 6
    figures = {"videos": 2, "segments": 6, "changed": 6}
    assert found == {"out": str(new), "model": "mine", "model_hash": mine.hash, **figures}
    assert labels(tags) == list("aabaab") and set(labels(new)) <= set("Bd-")


def test_the_same_command_again_has_nothing_to_do(tags: Path, mine: ModelSource) -> None:
    command = ["relabel", tags, "--model", mine.file, "--overwrite"]
    vtag(*command)
    done = vtag(*command)
    line = f"{tags}: already has the labels of mine ({mine.hash[:12]}); nothing to do\n"
    assert (done.exit_code, done.stdout, done.stderr) == (0, line, "")
    assert json.loads(vtag(*command, "--json").stdout)["changed"] == 0


def test_verify_and_the_other_questions_take_the_relabelled_result(tags: Path, mine: ModelSource) -> None:
    vtag("relabel", tags, "--model", mine.file, "--overwrite")
    line = f"{tags}: 2 videos, 6 segments with embeddings, complete, no duplicates, from mine ({mine.hash[:12]})\n"
    assert vtag("verify", tags).stdout == line
    assert json.loads(vtag("events", tags, "--json").stdout)["model"] == "mine"
    found = json.loads(vtag("search", tags, "--like", "/v/a.mp4@1", "--json").stdout)
    assert (found["moments"][0]["video"], found["moments"][0]["similarity"]) == ("/v/b.mp4", pytest.approx(1, abs=1e-3))


def test_more_labels_are_kept_with_top_k(tags: Path, mine: ModelSource, tmp_path: Path) -> None:
    assert vtag("relabel", tags, "--model", mine.file, "--overwrite", "--top-k", 3).exit_code == 0
    found = pq.read_table(tags if tags.suffix else tags / "tags")["top_labels"].to_pylist()
    assert all(sorted(top) == sorted("Bd-") for top in found)


@pytest.mark.parametrize("options", [[], ["--out", "new.parquet", "--overwrite"]])
def test_either_out_or_overwrite_is_given(options: list[str], tags: Path, mine: ModelSource) -> None:
    done = vtag("relabel", tags, "--model", mine.file, *options)
    assert done.exit_code == 2
    assert "give either --out PATH for a new result or --overwrite to replace the labels of TAGS." in done.stderr
    assert labels(tags) == list("aabaab")


def test_a_model_that_cannot_answer_is_refused_in_one_line(tags: Path, tmp_path: Path, model_file: Path) -> None:
    for model, says in (
        (model_file, f"vtag: the answers of {model_file.stem} cannot be computed from embeddings"),
        (tmp_path / "none.safetensors", f"vtag: {tmp_path}/none.safetensors does not exist"),
        # It is not downloaded first.
        ("x3d-m-kinetics400", "vtag: the answers of x3d-m-kinetics400 cannot be computed from embeddings"),
    ):
        done = vtag("relabel", tags, "--model", model, "--overwrite")
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(says)


def test_the_new_rows_are_those_of_the_model(tmp_path: Path, mine: ModelSource) -> None:
    old = write_model(tmp_path / "old.safetensors", "ab")
    publish_to(tmp_path / "t.parquet", [make_finished("/v/a.mp4", "abab")], identity=identity_of(old))
    wanted = expected_tags(tmp_path / "t.parquet", tmp_path / "t.embeddings.parquet", mine, 2)
    vtag("relabel", tmp_path / "t.parquet", "--model", mine.file, "--overwrite")
    assert labels(tmp_path / "t.parquet") == [row["label"] for row in wanted]
