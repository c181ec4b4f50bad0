"""Stretches that two videos share."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.browse.segments import open_result
from jobs.browse.vectors import similar
from jobs.browse.vectors.examples import Example
from jobs.browse.vectors.like import search_like
from jobs.browse.vectors.reading import vectors_at
from jobs.browse.vectors.similar import Similar, find_similar
from jobs.cli import main
from jobs.result.identity import RunIdentity
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up import make_video, with_vectors
from tests.jobs.result.finished import EMBEDDED, make_finished, publish_to

SIZE = 8


def scenes(count: int, seed: int = 0) -> np.ndarray:
    """Vectors of scenes of which no two are alike, ``[count, SIZE]``."""
    random = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    while len(found) < count:
        vector = random.standard_normal(SIZE)
        vector /= np.linalg.norm(vector)
        if all(vector @ other < 0.9 for other in found):
            found.append(vector)
    return np.stack(found)


def publish(out: Path, videos: Mapping[str, np.ndarray], hop_s: float = 2.0, identity: RunIdentity = EMBEDDED) -> Path:
    made = [
        with_vectors(make_video(name, [{"Biking": 1.0}] * len(vectors), hop_s=hop_s), vectors)
        for name, vectors in videos.items()
    ]
    publish_to(out, made, identity=identity)
    return out


def stretches(found: Similar) -> list[tuple[object, ...]]:
    return [tuple(row.values())[:6] for row in found.stretches.to_pylist()]


def find(path: Path, *, min_duration_s: float = 0.0, within: bool = False) -> list[tuple[object, ...]]:
    return stretches(find_similar(open_result(str(path)), 0.95, min_duration_s, within=within))


SCENES = scenes(40)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """In b.mp4, the scenes 3 to 6 of a.mp4 begin at 4 s. c.mp4 has one scene of a.mp4, and shows another one twice."""
    noise = 0.02 * np.random.default_rng(1).standard_normal((4, SIZE))
    videos = {
        "/v/a.mp4": SCENES[:10],
        "/v/b.mp4": np.concatenate([SCENES[10:12], SCENES[3:7] + noise, SCENES[12:15]]),
        "/v/c.mp4": SCENES[[20, 8, 21, 22, 21]],
    }
    return publish(tmp_path / "tags.parquet", videos)


COPY = ("/v/a.mp4", 6.0, 14.0, "/v/b.mp4", 4.0, 12.0)
SHORT = ("/v/a.mp4", 16.0, 18.0, "/v/c.mp4", 2.0, 4.0)
REPEAT = ("/v/c.mp4", 4.0, 6.0, "/v/c.mp4", 8.0, 10.0)


def test_a_stretch_that_was_copied_is_found_with_its_place_in_both_videos(result: Path) -> None:
    assert find(result) == [COPY, SHORT]
    found = find_similar(open_result(str(result)), 0.95).stretches.to_pylist()
    assert found[0]["segments"] == 4 and found[0]["similarity"] == pytest.approx(1, abs=0.02)


def test_the_similarity_of_copies_is_at_most_1(tmp_path: Path) -> None:
    path = publish(
        tmp_path / "t.parquet", {f"/v/{n}-{copy}.mp4": SCENES[n : n + 1] for n in range(30) for copy in "ab"}
    )
    found = find_similar(open_result(str(path)), 0.95).stretches["similarity"].to_numpy()
    assert len(found) == 30 and found.max() == 1 and found.min() > 0.998
    for number in range(30):
        example = Example("a copy", vectors_at(open_result(str(path)), np.array([2 * number])))
        assert 0.998 < search_like(open_result(str(path)), [example], top=1)["similarity"][0].as_py() <= 1


def test_short_stretches_are_left_out(result: Path) -> None:
    assert find(result, min_duration_s=8.0) == [COPY]
    assert find(result, min_duration_s=8.1) == []


def test_a_repetition_within_a_video_is_found_when_it_is_asked_for(result: Path) -> None:
    assert find(result, within=True) == [COPY, SHORT, REPEAT]


def test_overlapping_windows_of_a_video_are_no_repetition(tmp_path: Path) -> None:
    path = publish(tmp_path / "t.parquet", {"/v/a.mp4": np.repeat(SCENES[:1], 2, axis=0)}, hop_s=1.0)
    assert find(path, within=True) == []


def test_one_segment_that_is_less_similar_does_not_divide_a_stretch(tmp_path: Path) -> None:
    copy = SCENES[:6].copy()
    copy[2] = SCENES[30]
    path = publish(tmp_path / "t.parquet", {"/v/a.mp4": SCENES[:6], "/v/b.mp4": copy})
    assert find(path) == [("/v/a.mp4", 0.0, 12.0, "/v/b.mp4", 0.0, 12.0)]
    copy[3] = SCENES[31]
    path = publish(tmp_path / "u.parquet", {"/v/a.mp4": SCENES[:6], "/v/b.mp4": copy})
    assert find(path) == [
        ("/v/a.mp4", 0.0, 4.0, "/v/b.mp4", 0.0, 4.0),
        ("/v/a.mp4", 8.0, 12.0, "/v/b.mp4", 8.0, 12.0),
    ]


def test_a_scene_in_which_nothing_moves_gives_no_stretches_that_overlap_in_both_videos(tmp_path: Path) -> None:
    still = np.repeat(SCENES[:1], 5, axis=0)
    path = publish(tmp_path / "t.parquet", {"/v/a.mp4": still, "/v/b.mp4": still[:3]})
    assert find(path) == [
        ("/v/a.mp4", 0.0, 6.0, "/v/b.mp4", 0.0, 6.0),
        ("/v/a.mp4", 6.0, 10.0, "/v/b.mp4", 0.0, 4.0),
    ]


def test_cells_and_blocks_find_what_the_comparison_of_all_pairs_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    originals = random.standard_normal((30, 4, SIZE))
    copies = originals + 0.01 * random.standard_normal(originals.shape)
    videos = {f"/v/{n:02}.mp4": vectors for n, vectors in enumerate(originals)}
    videos |= {f"/v/{n:02}-copy.mp4": vectors for n, vectors in enumerate(copies)}
    path = publish(tmp_path / "t.parquet", videos)
    expected = find(path, min_duration_s=8.0)
    assert len(expected) == 30
    monkeypatch.setattr(similar, "BLOCK_SEGMENTS", 7)
    assert find(path, min_duration_s=8.0) == expected
    monkeypatch.setattr(similar, "EXACT_SEGMENTS", 100)
    monkeypatch.setattr(similar, "CELL_SEGMENTS", 40)
    assert find(path, min_duration_s=8.0) == expected


def test_the_weaker_half_of_too_many_pairs_is_dropped_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    still = np.repeat(SCENES[:1], 9, axis=0)
    videos = {f"/v/{n}.mp4": still for n in range(3)} | {"/v/8.mp4": SCENES[5:9], "/v/9.mp4": SCENES[5:9]}
    path = publish(tmp_path / "t.parquet", videos)
    monkeypatch.setattr(similar, "MAX_PAIRS", 50)
    monkeypatch.setattr(similar, "BLOCK_SEGMENTS", 10)
    found = find_similar(open_result(str(path)), 0.95)
    assert found.dropped and found.min_similarity > 0.95 and len(found.stretches)
    done = CliRunner().invoke(main, ["similar", str(path), "--json"])
    assert done.exit_code == 0
    assert done.stderr.startswith(f"vtag: note: {path} has so many pairs of similar segments that only the most ")


def test_pairs_of_stretches_are_given_as_a_table_and_as_json(result: Path) -> None:
    done = CliRunner().invoke(main, ["similar", str(result)])
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "video start end other start end similarity"
    assert lines[1] == "/v/a.mp4 6.0 s 14.0 s /v/b.mp4 4.0 s 12.0 s 1.00"
    assert lines[-1] == "2 pairs"
    done = CliRunner().invoke(main, ["similar", str(result), "--min-duration", "8", "--within", "--json"])
    found = json.loads(done.stdout)
    assert [tuple(row.values())[:6] for row in found["pairs"]] == [COPY]


@pytest.mark.parametrize(("space", "lowest"), [(None, 0.93), ("0123abcd", 0.85)])
def test_the_lowest_similarity_follows_from_the_kind_of_embeddings(
    tmp_path: Path, space: str | None, lowest: float
) -> None:
    identity = replace(EMBEDDED, embeddings={**(EMBEDDED.embeddings or {}), "space": space})
    path = publish(tmp_path / "tags.parquet", {"/v/a.mp4": SCENES[:3], "/v/b.mp4": SCENES[:3]}, identity=identity)
    found = json.loads(CliRunner().invoke(main, ["similar", str(path), "--json"]).stdout)
    assert found["min_similarity"] == lowest


@pytest.mark.parametrize("command", [["similar"], ["clusters"], ["search", "--like", "/v/a.mp4"]])
def test_a_result_without_segments_is_refused(tmp_path: Path, command: list[str]) -> None:
    publish_to(tmp_path / "t.parquet", [make_finished("/v/a.mp4", "")], identity=EMBEDDED)
    done = CliRunner().invoke(main, [command[0], str(tmp_path / "t.parquet"), *command[1:]])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"vtag: {tmp_path}/t.parquet has no segments: no video of it could be read\n"


@pytest.mark.parametrize("command", ["similar", "clusters"])
def test_a_result_without_embeddings_is_refused(tmp_path: Path, command: str) -> None:
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", [{"Biking": 1.0}])])
    done = CliRunner().invoke(main, [command, str(tmp_path / "t.parquet")])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.endswith("run again with --embeddings --overwrite\n")
