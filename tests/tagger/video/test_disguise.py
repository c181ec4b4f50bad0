"""Tests of disguised files: playlists are not followed, and decompression bombs are refused."""

import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tagger.clips import VideoEnd, read_spans
from tagger.preprocessing import Preprocessing
from tagger.video.choose import has_decord
from tagger.video.playlists import playlist_kind
from tagger.video.readers.decord_reader import _is_container
from tagger.windows import Sampling
from tests.tagger.zoo import remux
from tests.videos import encode

LISTS: dict[str, Callable[[str], str]] = {
    "hls": lambda target: f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": lambda target: f"ffconcat version 1.0\nfile {target}\n",
    "dash": lambda target: (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT1S"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>'
        f"{target}</BaseURL></Representation></AdaptationSet></Period></MPD>\n"
    ),
    "sdp": lambda target: "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n",
}


def read(path: Path) -> VideoEnd:
    *_, last = read_spans(path, Sampling(4, 1, 10.0), Preprocessing(64, 64))
    assert last.end is not None
    return last.end


@pytest.mark.parametrize("ending", ["m3u8", "mp4", "avi", "ts"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_other_files_is_not_followed_whatever_its_ending(kind: str, ending: str, tmp_path: Path) -> None:
    target = encode(tmp_path / "target.ts", seconds=1)
    path = tmp_path / f"list.{ending}"
    path.write_text(LISTS[kind](target.name))
    long_ago = (1_000_000_000, target.stat().st_mtime_ns // 10**9)
    os.utime(target, long_ago)
    end = read(path)
    assert (end.status, end.error_kind) == ("failed", "not_video")
    assert end.error is not None and "refers to other files" in end.error
    assert target.stat().st_atime == long_ago[0], "the file in the list was read"
    target.read_bytes()
    if target.stat().st_atime == long_ago[0]:
        pytest.skip("this file system does not tell when a file was read")


@pytest.mark.parametrize("kind", ["hls", "concat"])
def test_ffmpeg_itself_would_follow_the_list(kind: str, tmp_path: Path) -> None:
    # Otherwise the test above would pass with playlists that cannot be followed at all.
    encode(tmp_path / "target.ts", seconds=1)
    path = tmp_path / "list.m3u8"
    path.write_text(LISTS[kind]("target.ts"))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)) is not None


@pytest.mark.parametrize("kind", ["hls", "concat", "dash"])
def test_formats_that_refer_to_other_files_are_refused_even_if_the_head_is_not_recognised(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagger.video.container.playlist_kind", lambda head: None)
    encode(tmp_path / "target.ts", seconds=1)
    path = tmp_path / "list.m3u8"
    path.write_text(LISTS[kind]("target.ts"))
    end = read(path)
    assert (end.status, end.error_kind) == ("failed", "not_video")


@pytest.mark.parametrize("kind", ["hls", "concat", "dash"])
def test_no_connection_is_made(kind: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        path = tmp_path / "list.mp4"
        path.write_text(LISTS[kind](f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"))
        assert read(path).status == "failed"
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_name_that_is_a_pattern_does_not_open_an_image_sequence(tmp_path: Path) -> None:
    for i in range(3):
        encode(tmp_path / f"shot00{i}.jpg", codec="mjpeg", frames=1)
    path = tmp_path / "shot%03d.jpg"
    shutil.copy(encode(tmp_path / "a.mp4", seconds=1), path)
    with av.open(str(path)) as container:
        assert container.format.name == "image2"
    end = read(path)
    assert (end.status, end.facts and end.facts.container) == ("ok", "mov")


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (b"#EXTM3U\n", "mov"),
        (b"ffconcat version 1.0", "matroska"),
        (b"RIFF\0\0\0\0WAVE", "avi"),
        (b"\0\0\0\x08zzzz", "mp4"),
        (b"junk" + b"\x1a\x45\xdf\xa3", "matroska"),
    ],
)
def test_decord_gets_only_files_that_begin_as_their_container_does(head: bytes, container: str) -> None:
    assert not _is_container(head, container)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi", "a.flv", "a.wmv"])
def test_every_container_is_known_by_its_first_bytes(name: str, tmp_path: Path) -> None:
    codec = {"a.webm": "libvpx", "a.avi": "mpeg4", "a.flv": "flv", "a.wmv": "wmv2"}.get(name, "libx264")
    path = encode(tmp_path / name, codec=codec, frames=10)
    head = path.read_bytes()[:64]
    assert playlist_kind(head) is None
    end = read(path)
    assert end.facts is not None and _is_container(head, end.facts.container)
    assert end.choice is not None and (end.choice.decoder == "decord" or not has_decord())


@pytest.mark.parametrize(("width", "height"), [(30000, 30000), (65535, 65535), (1, 60000)])
def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(width: int, height: int, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.gif", codec="gif", rate=25, frames=3)
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", width, height)
    path.write_bytes(data)
    end = read(path)
    assert (end.status, end.error_kind) == ("failed", "unsupported")
    assert end.error is not None and "pixels" in end.error


def test_a_picture_that_is_too_large_in_its_own_header_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", codec="mjpeg", frames=3)
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0")
    while at >= 0:
        data[at + 5 : at + 9] = struct.pack(">HH", 30000, 30000)
        at = data.find(b"\xff\xc0", at + 1)
    path.write_bytes(data)
    end = read(path)
    assert end.status == "failed"
    assert end.error_kind in ("unsupported", "damaged")


def test_a_file_with_too_many_streams_is_refused(tmp_path: Path) -> None:
    one = encode(tmp_path / "a.mp4", frames=1)
    end = read(remux(tmp_path / "many.mp4", [one] * 300))
    assert (end.status, end.error_kind) == ("failed", "unsupported")
    assert end.error is not None and "streams" in end.error
    assert read(remux(tmp_path / "some.mp4", [one] * 100)).status == "ok"
