"""What may be watched, and what FFmpeg may open for it."""

import errno
import re
from pathlib import Path

import av
import pytest

from tagger.errors import InputError, VideoError
from tagger.live import source as source_module
from tagger.live.opening import lost_reason
from tagger.live.source import LiveSource, parse_source
from tagger.live.watch import wanted_for
from tests.tagger.live.fake_model import fake_tagger


@pytest.mark.parametrize(
    ("text", "protocols"),
    [
        ("rtsp://camera/1", {"rtsp", "tcp"}),
        ("rtmp://host/app/key", {"rtmp", "tcp"}),
        ("http://host/a.m3u8", {"https", "tls", "tcp", "http", "crypto"}),
        ("https://host/a.m3u8", {"https", "tls", "tcp", "http", "crypto"}),
        ("tcp://127.0.0.1:9000", {"tcp"}),
        ("udp://127.0.0.1:9000", {"udp"}),
        ("HTTP://host/a", {"https", "tls", "tcp", "http", "crypto"}),
    ],
)
def test_an_address_opens_its_own_protocols_and_no_file(text: str, protocols: set[str]) -> None:
    source = parse_source(text)
    assert (source.kind, source.address) == ("stream", text)
    assert set(source.protocols.split(",")) == protocols
    assert not protocols & {"file", "concat", "subfile", "data", "pipe", "fd", "async", "cache"}


@pytest.mark.parametrize("text", ["http://host/a", "tcp://host:1", "rtsp://host/1"])
def test_formats_that_refer_to_files_stay_closed(text: str) -> None:
    assert not {"concat", "image2", "dash", "sdp", "lavfi"} & set(parse_source(text).formats)


def test_a_password_is_not_shown() -> None:
    source = parse_source("rtsp://ada:secret@camera:8554/1?x=2")
    assert source.name == "rtsp://ada@camera:8554/1?x=2"
    assert "secret" in source.address


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("http://camera/a?usr=ada&pwd=secret&channel=1", "http://camera/a?usr=ada&pwd=***&channel=1"),
        ("http://camera/a?access_token=secret#1", "http://camera/a?access_token=***#1"),
        ("rtsp://camera/user=ada&Password=secret&channel=1", "rtsp://camera/user=ada&Password=***&channel=1"),
        ("http://camera:80/a@b?channel=1", "http://camera:80/a@b?channel=1"),
    ],
)
def test_a_secret_in_an_address_is_not_shown(text: str, name: str) -> None:
    source = parse_source(text)
    assert (source.name, source.address) == (name, text)


@pytest.mark.parametrize(
    "text",
    ["srt://ada:secret@host", "rtsp://ada:secret@host:x/1", "http://ada:a/secret@host/1", "http:///?token=secret"],
)
def test_no_error_shows_a_secret(text: str) -> None:
    with pytest.raises(InputError) as found:
        parse_source(text)
    assert "secret" not in str(found.value)


def test_a_pipe_and_a_file_are_watched(tmp_path: Path) -> None:
    (tmp_path / "12").write_bytes(b"x")
    assert parse_source("-").kind == "pipe"
    source = parse_source(str(tmp_path / "12"))
    assert (source.kind, source.address) == ("file", str(tmp_path / "12"))


def test_a_source_survives_the_way_to_its_process() -> None:
    import json

    source = parse_source("rtsp://camera/1")
    assert LiveSource.from_json(json.loads(json.dumps(source.to_json()))) == source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no such file", "no such file cannot be watched: no such file or directory"),
        ("", "the source is empty"),
        ("/dev/video973", "there is no camera /dev/video973; this machine has"),
        ("973", "there is no camera /dev/video973; this machine has"),
        ("/dev/null", "/dev/null is not a regular file"),
        ("file:///etc/passwd", "vtag watches no file:// addresses, but rtsp://"),
        ("concat://a|b", "vtag watches no concat:// addresses"),
        ("srt://host:1", "vtag watches no srt:// addresses"),
        ("http://", "http:// is not a complete address; give http://HOST/..."),
        ("udp://127.0.0.1", "is not a complete address; give udp://HOST:PORT"),
        ("tcp://host:99999", "is not a complete address"),
        ("http://host/a\nb", "is not a complete address"),
        ("a\0b", "cannot be watched"),
    ],
)
def test_what_cannot_be_watched_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as found:
        parse_source(text)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_a_source_is_lost_for_a_reason_that_is_a_sentence() -> None:
    assert lost_reason(VideoError("no_video_stream", "it has no picture"), 10.0) == "it has no picture"
    assert lost_reason(VideoError("unsupported", "it: FFmpeg has no decoder"), 10.0) == "FFmpeg has no decoder"
    assert lost_reason(av.error.ExitError(1, "Immediate exit requested"), 10.0) == "no data came for 10 s"
    assert lost_reason(OSError(errno.EIO, "Input/output error"), 10.0, waited_s=9.0) == "reading failed"
    assert lost_reason(OSError(errno.EIO, "Input/output error"), 10.0, waited_s=11.0) == "no data came for 10 s"


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        parse_source(str(tmp_path))


@pytest.mark.parametrize(
    ("address", "kind"),
    [("rtsp://ada:secret@camera/1", "live stream"), ("UDP://0.0.0.0:1", "live stream"), ("/dev/null", "camera")],
)
def test_a_live_source_has_a_pace_of_its_own(address: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "CAMERA", re.compile("/dev/null"))
    model = fake_tagger().source.info
    with pytest.raises(InputError, match=rf"pace would change nothing: .* is a {kind}, which comes at") as error:
        wanted_for(parse_source(address), model, pace=1.0)
    assert "secret" not in str(error.value)
    assert wanted_for(parse_source("http://host/a.mp4"), model, pace=1.0).pace == 1.0
