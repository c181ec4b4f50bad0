"""The examples do what they say."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import tagger
from jobs.cli.run import run
from tagger import TAGS_SCHEMA, VIDEOS_SCHEMA
from tests.clusters import cluster
from tests.jobs.result.embedded import vector_of
from tests.jobs.result.finished import EMBEDDED, make_finished, publish_to
from tests.tagger.live.fake_model import fake_tagger
from tests.videos import encode

ROWS = (("a", 0), ("a", 1), ("b", 2), ("c", 0))
"""Label and number of the segments of the result with embeddings."""

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_example_queries_run_on_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def row(video: str, segment: int, best: str, other: str, confidence: float) -> dict[str, object]:
        return {
            "video": video,
            "segment": segment,
            "start_s": 2.0 * segment,
            "end_s": 2.0 * segment + 2,
            "label": best,
            "confidence": confidence,
            "top_labels": [best, other],
            "top_confidences": [confidence, 1 - confidence],
        }

    rows = [row("a.mp4", 0, "Swing", "Diving", 0.6), row("a.mp4", 1, "Diving", "Swing", 0.9)]
    rows += [row("b.mp4", 0, "Swing", "Diving", 0.7)]
    empty = dict.fromkeys(VIDEOS_SCHEMA.names)
    now = datetime.now(UTC)
    done = {**empty, "mtime": now, "status": "ok", "decode_s": 0.1, "predict_s": 0.1}
    videos = [{**done, "video": "a.mp4", "segments": 2}, {**done, "video": "b.mp4", "segments": 1}]
    failed = {"video": "c.mp4", "segments": 0, "status": "failed", "error_kind": "empty", "error": "c.mp4 is empty"}
    pq.write_table(pa.Table.from_pylist(rows, TAGS_SCHEMA), tmp_path / "tags.parquet")
    pq.write_table(pa.Table.from_pylist([*videos, {**done, **failed}], VIDEOS_SCHEMA), tmp_path / "tags.videos.parquet")
    monkeypatch.chdir(tmp_path)
    labels, certain, by_video, unread = (
        duckdb.sql(query).fetchall() for query in (EXAMPLES / "queries.sql").read_text().split(";")[:-1]
    )
    assert labels == [("Swing", 2, 0.1), ("Diving", 1, 0.0)]
    assert [entry[:3] for entry in certain] == [("Diving", "a.mp4", 2.0), ("Swing", "b.mp4", 0.0)]
    # 0.4 and 0.9 of Diving against 0.6 and 0.1 of Swing.
    assert [entry[:2] for entry in by_video] == [("a.mp4", "Diving"), ("b.mp4", "Swing")]
    assert by_video[0][2] == pytest.approx(0.65)
    assert unread == [("c.mp4", "failed", "empty", "c.mp4 is empty")]


@pytest.mark.parametrize("size", [512, 384])
def test_similar_segments_are_found_with_duckdb_and_with_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    identity = replace(EMBEDDED, embeddings={"size": size, "version": 1})
    videos = [make_finished("/v/a.mp4", "aab"), make_finished("/v/b.mp4", ""), make_finished("/v/c.mp4", "c")]
    monkeypatch.chdir(tmp_path)
    for out in ("tags.parquet", "tags"):
        publish_to(out, videos, identity=identity)
    found = duckdb.sql((EXAMPLES / "similar.sql").read_text()).fetchall()
    assert found[0] == (1.0, "a", "/v/a.mp4", 0.0)
    vectors = [vector_of(label, segment, size).astype(np.float32) for label, segment in ROWS]
    expected = sorted((float(vector @ vectors[0]) for vector in vectors), reverse=True)
    assert [row[0] for row in found] == pytest.approx(expected, abs=2e-3)

    for out in ("tags.parquet", "tags"):
        script = [sys.executable, str(EXAMPLES / "similar.py"), out, "/v/a.mp4"]
        lines = subprocess.run([*script, "1.5"], capture_output=True, text=True, check=True).stdout.splitlines()
        assert lines[0].split() == ["1.000", "0.00", "s", "to", "2.00", "s", "a", "/v/a.mp4"]
        assert [float(line.split()[0]) for line in lines] == pytest.approx(expected, abs=2e-3)
        missing = subprocess.run([*script, "100"], capture_output=True, text=True)
        assert (missing.returncode, missing.stderr) == (1, f"{out} has no segment at 100 s of /v/a.mp4\n")


@pytest.mark.parametrize("out", ["tags.parquet", "tags"])
def test_hours_of_labels_are_printed_by_month(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Segments of two seconds: an hour and a half of "a", and six minutes of "b".
    publish_to(out, [make_finished("/v/a.mp4", "a" * 2700), make_finished("/v/b.mp4", "b" * 180)])
    script = [sys.executable, str(EXAMPLES / "by_month.py"), out]
    lines = subprocess.run([*script, "0"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].split()[1:] == ["all"] and re.fullmatch(r"\d{4}-\d\d", lines[0].split()[0])
    assert [line.split() for line in lines[2:]] == [["a", "1.5", "1.5"], ["b", "0.1", "0.1"]]
    none = subprocess.run([*script, "1.1"], capture_output=True, text=True)
    assert (none.returncode, none.stderr) == (1, f"{out} has no segment with a confidence of 1.1 or more\n")


def vtag_commands() -> Iterator[tuple[str, str]]:
    """The files of the examples that are no page, each with a command of vtag in it."""
    for path in sorted((EXAMPLES / "deploy").iterdir()):
        if path.suffix in (".yaml", ".sh", ".service"):
            text = path.read_text().replace("\\\n", " ").replace("%%", "%")
            for line in text.splitlines():
                if (found := re.search(r"^(?!#).*?(vtag run .*?)(?: \|\| .*)?$", line)) is not None:
                    yield path.name, found[1]


def test_the_commands_that_run_vtag_elsewhere_are_right() -> None:
    found = dict(vtag_commands())
    assert found.keys() == {"rayjob.yaml", "slurm.sh", "vtag.service"}
    for command in found.values():
        _, name, *arguments = shlex.split(command)
        assert run.make_context(name, arguments).params["inputs"]


def test_the_machines_of_kubernetes_have_the_same_image_and_volumes() -> None:
    job = yaml.safe_load((EXAMPLES / "deploy" / "rayjob.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    for pod in pods:
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {"videos": "/videos", "out": "/out", "shm": "/dev/shm"}
        assert {volume["name"] for volume in pod["volumes"]} == mounts.keys()
        assert container["image"] == "VTAG_IMAGE"


NEEDED = {
    "head": {"rayStartParams", "template"},
    "workers": {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"},
}
"""Fields that a group must have in KubeRay's schema (ray-operator/apis/ray/v1/raycluster_types.go)."""


def test_the_job_of_kubernetes_has_the_fields_of_kuberays_schema() -> None:
    job = yaml.safe_load((EXAMPLES / "deploy" / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"], set(job)) == (
        "ray.io/v1",
        "RayJob",
        {"apiVersion", "kind", "metadata", "spec"},
    )
    assert set(job["spec"]) == {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "rayClusterSpec"}
    kinds = {name: type(job["spec"][name]) for name in ("entrypoint", "backoffLimit", "shutdownAfterJobFinishes")}
    assert kinds == {"entrypoint": str, "backoffLimit": int, "shutdownAfterJobFinishes": bool}
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) == {"headGroupSpec", "workerGroupSpecs"}
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert set(head) == NEEDED["head"] and set(workers) == {*NEEDED["workers"], "replicas"}
    for group in (head, workers):
        # Numbers would be refused: the schema asks for strings.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert set(group["template"]) == {"spec"}
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]


def test_a_slurm_job_starts_ray_on_all_its_machines_and_vtag_on_the_first(tmp_path: Path) -> None:
    programs = {"scontrol": 'printf "node7\\nnode8\\n"', "srun": 'printf "%s\\n" "$@"'}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2",
    }
    script = ["bash", str(EXAMPLES / "deploy" / "slurm.sh")]
    done = subprocess.run([*script, "/my videos", "t.parquet"], capture_output=True, text=True, env=environment)
    ray = ["ray", "symmetric-run", "--address", "node7:6379", "--min-nodes", "2", "--"]
    vtag = ["vtag", "run", "/my videos", "--out", "t.parquet", "--address", "auto"]
    assert (done.stdout.splitlines(), done.stderr) == (ray + vtag, "")
    wrong = subprocess.run([*script, "/videos"], capture_output=True, text=True, env=environment)
    assert (wrong.returncode, wrong.stderr) == (2, "usage: sbatch slurm.sh VIDEOS OUT\n")


def test_the_container_is_made_of_what_there_is_and_of_any_base() -> None:
    lines = (EXAMPLES / "deploy" / "Dockerfile").read_text().splitlines()
    assert "FROM ${BASE}" in lines and sum(line.startswith("ARG BASE=") for line in lines) == 1
    copied = [source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]]
    assert {"pyproject.toml", "README.md", "tagger", "training", "jobs"} == set(copied)
    assert all((EXAMPLES.parent / source).exists() for source in copied)


def test_systemd_takes_the_units_of_the_job_every_night(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("vtag.service", "vtag.timer"):
        # The command is not installed on this machine, and systemd looks for it.
        text = (EXAMPLES / "deploy" / name).read_text().replace("/opt/vtag/.venv/bin/vtag", sys.executable)
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / name) for name in ("vtag.timer", "vtag.service")]
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True)
    # Other units of this machine may have faults of their own.
    assert [line for line in done.stderr.splitlines() if "vtag" in line] == []
    assert done.returncode == 0


@pytest.mark.slow
def test_a_script_tags_an_archive_on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "videos").mkdir()
    encode(tmp_path / "videos" / "a.mp4", seconds=3)
    (tmp_path / "videos" / "b.mp4").write_text("no video")
    script = [sys.executable, str(EXAMPLES / "deploy" / "cluster_job.py"), "videos", "tags.parquet"]
    with cluster(2) as nodes:
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines()[0] == "tags.parquet: 2 videos, 0.0 hours, 2 segments"
    assert done.stderr.startswith(f"{tmp_path}/videos/b.mp4: ")
    again = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "tags.parquet is complete\n")


def test_a_picture_is_kept_each_time_an_action_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, pictures = encode(tmp_path / "clip.mp4", seconds=3), tmp_path / "pictures"
    monkeypatch.setattr(tagger, "load_model", fake_tagger)

    def watch_for(label: str, confidence: str) -> None:
        monkeypatch.setattr(sys, "argv", ["watch_for.py", str(clip), label, str(pictures), confidence])
        runpy.run_path(str(EXAMPLES / "watch_for.py"), run_name="__main__")

    watch_for("dark", "0")
    (picture,) = pictures.iterdir()
    assert picture.read_bytes().startswith(b"\xff\xd8")
    assert re.fullmatch(rf" +0\.00 s  dark 0\.\d\d  {re.escape(str(picture))}\n", capsys.readouterr().out)
    watch_for("dark", "1.1")
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit, match="the model does not know 'Juggling'; it knows dark, light"):
        watch_for("Juggling", "0")


@pytest.mark.slow
def test_moments_of_an_action_are_printed(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", seconds=3)
    script = [sys.executable, str(EXAMPLES / "find_moments.py"), str(clip)]
    found = subprocess.run([*script, "Swing", "0"], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["0.00", "s", "to", "3.00", "s"]
    unknown = subprocess.run([*script, "Juggling"], capture_output=True, text=True)
    assert unknown.returncode == 1 and "does not know 'Juggling'" in unknown.stderr
