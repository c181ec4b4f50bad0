"""Where a web address may lead, on localhost: to ``https``, and to other playlists and keys, but never to a file."""

import logging
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from tagger.errors import VideoError
from tagger.live.ffmpeg_log import NetworkLog
from tagger.live.hls_playlists import MAX_PLAYLISTS, check_playlist, named_playlists
from tagger.live.opening import is_recording, lost_reason, open_source
from tagger.live.source import parse_source
from tests.tagger.live.senders import CERTIFICATE, hls, http_server, tcp_server, transport_stream
from tests.videos import encode

TIMEOUT_S = 30.0
"""Longer than any answer of a busy machine."""

PLAYLIST = "application/vnd.apple.mpegurl"

VIDEO = "video/mp2t"


def packets_at(address: str) -> int:
    """Opens an address as ``vtag watch`` does. Returns the number of its packets."""
    container, stream = open_source(parse_source(address), TIMEOUT_S, lambda: None)
    with container:
        return sum(1 for packet in container.demux(stream) if packet.size)


@pytest.fixture(autouse=True)
def log() -> Iterator[NetworkLog]:
    heard = NetworkLog()
    yield heard
    logging.getLogger("libav").removeHandler(heard)
    av.logging.set_level(None)


def refusal(address: str, log: NetworkLog) -> str:
    """Returns why an address is not opened."""
    with pytest.raises((av.error.FFmpegError, OSError, VideoError)) as found:
        packets_at(address)
    return lost_reason(found.value, TIMEOUT_S, logged=log.reason)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    (tmp_path / "certificate.pem").write_text(CERTIFICATE)
    return tmp_path / "certificate.pem"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A video on this machine that no server may name."""
    (tmp_path / "private.ts").write_bytes(transport_stream(1))
    return tmp_path / "private.ts"


def test_a_redirection_to_https_is_followed(certificate: Path) -> None:
    video = {"/a.ts": (VIDEO, transport_stream(1))}
    with (
        http_server(video, certificate=certificate) as there,
        http_server({}, redirections={"/a": f"{there}/a.ts"}) as here,
    ):
        assert packets_at(f"{here}/a") == 30


@pytest.mark.parametrize("scheme", ["file", "crypto+file", "rtmp", "gopher"])
def test_a_redirection_to_anything_else_reads_nothing(scheme: str, private: Path, log: NetworkLog) -> None:
    with http_server({}, redirections={"/a": f"{scheme}://{private}"}) as address:
        assert refusal(f"{address}/a", log).startswith(f"it leads to {scheme[:9]}:, which vtag does not open")


def test_an_encrypted_playlist_is_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(range(16)))
    (tmp_path / "info").write_text(f"key\n{tmp_path / 'key'}\n")
    files = hls(tmp_path, 2, hls_key_info_file=str(tmp_path / "info"))
    assert b"METHOD=AES-128" in files["a.m3u8"]
    with http_server(
        {f"/{name}": (VIDEO, data) for name, data in files.items()} | playlist(files["a.m3u8"])
    ) as address:
        assert packets_at(f"{address}/a.m3u8") == 60


def playlist(text: str | bytes, path: str = "/a.m3u8") -> dict[str, tuple[str, bytes]]:
    return {path: (PLAYLIST, text if isinstance(text, bytes) else text.encode())}


def with_segment(name: str, *lines: str) -> dict[str, tuple[str, bytes]]:
    return playlist("\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", *lines, "#EXTINF:2,", name, "#EXT-X-ENDLIST"]))


def test_a_segment_on_the_server_is_read() -> None:
    with http_server(with_segment("a.ts") | {"/a.ts": (VIDEO, transport_stream(2))}) as address:
        assert packets_at(f"{address}/a.m3u8") == 60


FILE_SEGMENTS = ["file://{}", "{}", "concat:{}", "subfile,,start,0,end,0,,:{}"]
ENCRYPTED_FILE_SEGMENTS = ["crypto+file://{}", "crypto:file://{}", "crypto:{}"]


@pytest.mark.parametrize("named", [*FILE_SEGMENTS, *ENCRYPTED_FILE_SEGMENTS])
@pytest.mark.parametrize("keys", [[], [f'#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x{"0" * 32}']])
def test_a_segment_that_is_a_file_reads_nothing(named: str, keys: list[str], private: Path, log: NetworkLog) -> None:
    answers = with_segment(named.format(private), *keys) | {"/key": ("application/octet-stream", bytes(16))}
    with http_server(answers) as address:
        assert refusal(f"{address}/a.m3u8", log)


@pytest.mark.parametrize("line", ['KEY:METHOD=AES-128,URI="{}"', 'MAP:URI="{}"', 'MAP:URI="crypto+{}"'])
def test_a_key_or_a_beginning_that_is_a_file_reads_nothing(line: str, private: Path, log: NetworkLog) -> None:
    answers = with_segment("a.ts", f"#EXT-X-{line.format(f'file://{private}')}") | {
        "/a.ts": (VIDEO, transport_stream(2))
    }
    with http_server(answers) as address:
        assert refusal(f"{address}/a.m3u8", log)


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfile:///etc/passwd\n",
        b"no video at all",
    ],
)
def test_other_playlists_and_texts_are_no_video(content: bytes, log: NetworkLog) -> None:
    with http_server({"/a": ("text/plain", content)}) as address:
        assert refusal(f"{address}/a", log)


def test_a_playlist_of_qualities_is_read(tmp_path: Path) -> None:
    files = hls(tmp_path, 2)
    answers = {f"/b/{name}": (VIDEO, data) for name, data in files.items()}
    answers |= playlist(files["a.m3u8"], "/b/a.m3u8") | playlist("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb/a.m3u8\n")
    with http_server(answers) as address:
        assert packets_at(f"{address}/a.m3u8") == 60


def test_a_playlist_that_names_itself_is_read_a_few_times_and_told(log: NetworkLog) -> None:
    asked: list[int] = []

    def write(out: object) -> None:
        asked.append(1)
        assert callable(out)
        out(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n")

    with http_server({"/a.m3u8": (PLAYLIST, write)}) as address:
        assert refusal(f"{address}/a.m3u8", log) == "its playlist names itself"
    assert len(asked) <= 3


def quality(*names: str) -> str:
    return "#EXTM3U\n" + "".join(f"#EXT-X-STREAM-INF:BANDWIDTH=1\n#\n\n{name}\n" for name in names)


RENDITION = '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",URI="{}"\n'
SEGMENTS = "#EXTM3U\n#EXTINF:2,\na.ts\n"


def test_the_playlists_that_a_playlist_names_are_found() -> None:
    text = quality("b.m3u8?x=1", "/c.m3u8", "b.m3u8?x=1") + RENDITION.format("https://there/d.m3u8")
    assert named_playlists(text, "http://h/a/a.m3u8") == [
        "http://h/a/b.m3u8?x=1",
        "http://h/c.m3u8",
        "https://there/d.m3u8",
    ]
    assert named_playlists(SEGMENTS, "http://h/a.m3u8") == []


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"a": quality("a")}, "names itself"),
        ({"a": RENDITION.format("a")}, "names itself"),
        ({"a": quality("b"), "b": quality("a")}, "names playlists in turn"),
        ({"a": quality("b", "c"), "b": SEGMENTS, "c": quality("c")}, "names playlists in turn"),
        ({"a": quality(*map(str, range(MAX_PLAYLISTS + 1)))}, "names 51 playlists"),
    ],
)
def test_playlists_without_an_end_are_refused(texts: dict[str, str], reason: str) -> None:
    with pytest.raises(VideoError, match=reason):
        check_playlist("http://h/a", lambda address: texts[address.rpartition("/")[2]])


@pytest.mark.parametrize("texts", [{"a": SEGMENTS}, {"a": ""}, {"a": quality("b", "c"), "b": SEGMENTS, "c": ""}])
def test_other_playlists_are_left_to_ffmpeg(texts: dict[str, str]) -> None:
    check_playlist("http://h/a", lambda address: texts[address.rpartition("/")[2]])


def test_the_length_of_an_flv_counts_only_if_its_size_is_known(tmp_path: Path) -> None:
    """A sender that broadcasts a file puts its length into the header."""
    data = encode(tmp_path / "a.flv", seconds=1).read_bytes()
    with http_server({"/a.flv": ("video/x-flv", data)}) as recording, tcp_server(data) as broadcast:
        for address, expected in ((f"{recording}/a.flv", True), (broadcast, False)):
            container, _ = open_source(parse_source(address), TIMEOUT_S, lambda: None)
            with container:
                assert container.duration and is_recording(container) == expected


def test_a_port_that_speaks_tls_or_does_not_is_told(certificate: Path, log: NetworkLog) -> None:
    with http_server({}) as plain, http_server({}, certificate=certificate) as encrypted:
        assert refusal(plain.replace("http", "https"), log) == "it does not speak TLS"
        log.forget()
        assert refusal(encrypted.replace("https", "http"), log) == "it ended the connection without an answer"


def test_a_host_without_an_address_is_named(log: NetworkLog) -> None:
    assert refusal("http://nothing.invalid/a", log) == "the host nothing.invalid is not found"
