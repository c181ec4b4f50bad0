"""Tests of the Kinetics weights: they are downloaded once, completely or not at all."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from tagger.classifier import Classifier
from tagger.errors import WeightsError
from tagger.models import download
from tagger.models.download import download_once
from tagger.models.download_progress import download_progress
from tagger.models.kinetics import I3D_WEIGHTS
from tagger.models.weights import cache_dir, find_weights
from tagger.tagger import find_model
from tests.tagger.models.weights_server import BODY, WeightsServer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pyth"


def accept(_: Path) -> None:
    """A check that accepts any content."""


def is_alone(file: Path) -> bool:
    """Checks that a download left only this file and its lock."""
    return {path.name for path in file.parent.iterdir()} - {f"{file.name}.lock"} == {file.name}


def test_a_named_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.pyth"
    path.write_bytes(b"x")
    assert find_weights(I3D_WEIGHTS, path) == path
    assert find_weights(I3D_WEIGHTS, str(path)) == path


def test_a_named_file_that_is_not_there_is_named_in_the_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pyth", tmp_path):
        with pytest.raises(WeightsError, match=re.escape(f"--weights {path}: there is no such file")):
            find_weights(I3D_WEIGHTS, path)


def test_the_second_call_uses_the_cache(server: WeightsServer, file: Path) -> None:
    assert download_once(server.url, file, accept) == file
    assert file.read_bytes() == BODY
    assert is_alone(file)
    assert download_once(server.url, file, accept) == file
    assert server.requested_ranges == [None]


def test_the_progress_of_a_download_goes_to_the_display_that_was_set(server: WeightsServer, file: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    before = download_progress.set(lambda: nullcontext(lambda done, total: seen.append((done, total))))
    try:
        download_once(server.url, file, accept)
    finally:
        download_progress.reset(before)
    assert seen[0] == (0, len(BODY)) and seen[-1] == (len(BODY), len(BODY))


def test_a_broken_connection_is_resumed_where_it_broke(server: WeightsServer, file: Path) -> None:
    server.breaks_after = [100_000, 50_000]
    download_once(server.url, file, accept)
    assert file.read_bytes() == BODY
    assert server.requested_ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_run_resumes_what_an_earlier_one_left(server: WeightsServer, file: Path) -> None:
    server.breaks_after = [100_000, 0, 0]
    with pytest.raises(WeightsError, match="closed after 100000 of 300000 bytes"):
        download_once(server.url, file, accept)
    assert not file.exists()
    download_once(server.url, file, accept)
    assert file.read_bytes() == BODY
    assert server.requested_ranges[-1] == "bytes=100000-"
    assert is_alone(file)


def test_a_server_that_ignores_ranges_sends_the_whole_again(server: WeightsServer, file: Path) -> None:
    server.takes_ranges = False
    server.breaks_after = [100_000]
    download_once(server.url, file, accept)
    assert file.read_bytes() == BODY
    assert server.requested_ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("etag", ['W/"1"', None])
def test_without_a_strong_validator_nothing_is_resumed(etag: str | None, server: WeightsServer, file: Path) -> None:
    server.etag = etag
    server.breaks_after = [100_000]
    download_once(server.url, file, accept)
    assert file.read_bytes() == BODY
    assert server.requested_ranges == [None, None]


def test_two_versions_of_a_file_are_never_mixed(server: WeightsServer, file: Path) -> None:
    server.breaks_after = [100_000, 0, 0]
    with pytest.raises(WeightsError):
        download_once(server.url, file, accept)
    server.body, server.etag = BODY[::-1], '"2"'
    download_once(server.url, file, accept)
    assert file.read_bytes() == BODY[::-1]


def test_a_part_longer_than_the_file_is_thrown_away(server: WeightsServer, file: Path) -> None:
    server.breaks_after = [100_000, 0, 0]
    with pytest.raises(WeightsError):
        download_once(server.url, file, accept)
    server.body = BODY[:50_000]
    download_once(server.url, file, accept)
    assert file.read_bytes() == BODY[:50_000]


def test_a_truncated_body_is_never_accepted(server: WeightsServer, file: Path) -> None:
    server.etag = None
    server.breaks_after = [299_999] * 3
    with pytest.raises(WeightsError, match="299999 of 300000 bytes") as caught:
        download_once(server.url, file, accept)
    assert "--weights FILE" in str(caught.value)
    assert not file.exists()


def test_wrong_content_is_refused_and_removed(server: WeightsServer, file: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == BODY
        raise WeightsError("it is a web page")

    with pytest.raises(WeightsError, match=r"it is a web page.*--weights FILE") as caught:
        download_once(server.url, file, refuse)
    assert server.url in str(caught.value)
    assert [path.name for path in file.parent.iterdir()] == [f"{file.name}.lock"]


def test_a_hash_in_the_files_name_is_compared(server: WeightsServer, file: Path) -> None:
    good = hashlib.sha256(BODY).hexdigest()[:8]
    with pytest.raises(WeightsError, match="does not begin with 0badc0de"):
        download_once(server.url.replace(".pyth", "-0badc0de.pyth"), file, accept)
    assert not file.exists()
    assert download_once(server.url.replace(".pyth", f"-{good}.pyth"), file, accept).read_bytes() == BODY


def test_a_busy_server_is_retried_but_a_missing_file_is_not(server: WeightsServer, file: Path) -> None:
    server.statuses = [404]
    with pytest.raises(WeightsError, match=r"HTTP 404.*--weights FILE"):
        download_once(server.url, file, accept)
    assert len(server.requested_ranges) == 1
    server.statuses = [503, 429]
    assert download_once(server.url, file, accept).read_bytes() == BODY


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.pyth", "http://weights.invalid/x.pyth", "no url"])
def test_without_a_network_the_error_comes_at_once_and_says_what_to_do(
    url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda _: pytest.fail("waited to try again"))
    with pytest.raises(WeightsError) as caught:
        download_once(url, file, accept)
    assert str(caught.value).startswith(f"cannot download the Kinetics-400 weights from {url} (")
    assert "name the file with --weights FILE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_simultaneous_downloads_share_one_request(server: WeightsServer, file: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for path in pool.map(lambda _: download_once(server.url, file, accept), range(4)):
            assert path.read_bytes() == BODY
    assert len(server.requested_ranges) == 1


def test_a_cache_that_cannot_be_written_is_named(server: WeightsServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match=r"cannot keep .* in .*cache.*VTAG_CACHE.*--weights FILE"):
        download_once(server.url, tmp_path / "cache" / "weights.pyth", accept)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("VTAG_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == Path("/home/ada/.cache/vtag")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/vtag")
    monkeypatch.setenv("VTAG_CACHE", "/mine")
    assert cache_dir() == Path("/mine")


def test_a_web_page_in_place_of_the_weights_is_refused(mirror: WeightsServer) -> None:
    mirror.body = b"<!DOCTYPE html><title>Please log in</title>"
    with pytest.raises(WeightsError, match="is not the Kinetics-400 weights") as caught:
        find_weights(I3D_WEIGHTS)
    assert "\n" not in str(caught.value)
    assert not (cache_dir() / "I3D_8x8_R50.pyth").exists()


def test_a_checkpoint_of_another_network_is_refused(mirror: WeightsServer, tmp_path: Path) -> None:
    torch.save({"model_state": {"blocks.0.conv.weight": torch.zeros(64, 3, 5, 7, 7)}}, tmp_path / "x.pyth")
    mirror.body = (tmp_path / "x.pyth").read_bytes()
    with pytest.raises(WeightsError, match="266 of 267 tensors are missing"):
        find_weights(I3D_WEIGHTS)
    assert not (cache_dir() / "I3D_8x8_R50.pyth").exists()


def test_a_mirror_may_be_a_folder(mirror: WeightsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTAG_WEIGHTS_URL", mirror.url.rpartition("/")[0] + "/mirror/")
    mirror.statuses = [404]
    with pytest.raises(WeightsError, match=r"/mirror/I3D_8x8_R50\.pyth \(HTTP 404"):
        find_weights(I3D_WEIGHTS)


@pytest.mark.slow
def test_the_kinetics_model_is_downloaded_once_and_loads(
    mirror: WeightsServer, kinetics_checkpoint: Path, pytorchvideo_i3d: torch.nn.Module
) -> None:
    mirror.body = kinetics_checkpoint.read_bytes()
    source = find_model("i3d-kinetics400")
    assert source.file == cache_dir() / "I3D_8x8_R50.pyth"
    assert source.hash == hashlib.sha256(mirror.body).hexdigest()
    assert find_model("i3d-kinetics400") == source
    assert len(mirror.requested_ranges) == 1
    classifier = source.load("cpu")
    assert isinstance(classifier, Classifier)
    loaded = classifier._head.state_dict()["proj.weight"]
    assert torch.equal(loaded, pytorchvideo_i3d.blocks[-1].proj.weight)
