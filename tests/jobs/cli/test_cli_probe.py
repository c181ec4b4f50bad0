"""``vtag probe``, run from the command line."""

import json
from pathlib import Path

import pytest
from click.testing import Result

from jobs.cli import main
from tagger import Preprocessing, Sampling, inspect_video
from tagger.video.choose import has_decord
from tests.click_runner import CliRunner
from tests.videos import encode


def probe(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["probe", *map(str, arguments)])


needs_decord = pytest.mark.skipif(not has_decord(), reason="decord has no wheel for this machine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    encode(folder / "clip.mp4", seconds=5, rate=25)
    encode(folder / "tape.mpg", codec="mpeg1video", seconds=3)
    encode(folder / "uneven.mp4", times_s=[0, 0.1, 0.15, 0.5, 0.6, 1.4, 1.5], options={"bf": "0"})
    whole = encode(folder / "cut.mp4", seconds=8, container_options={"movflags": "faststart"}).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("not a video\n" * 50)
    return folder


def test_it_shows_the_facts_of_a_video(folder: Path) -> None:
    done = probe(folder / "clip.mp4")
    assert done.exit_code == 0
    shown = dict(line.strip().split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    assert shown == {
        "container": "mp4",
        "codec": "h264",
        "size": "96×64",
        "rate": "25 frames/s, constant",
        "duration": "5.00 s",
        "start": "0 s",
        "reader": "pyav",
        "windows": "3",
    }


@needs_decord
def test_it_says_why_a_video_is_not_read_with_decord_and_that_its_rate_varies(folder: Path, tmp_path: Path) -> None:
    turned = encode(tmp_path / "turned.mp4", codec="libvpx-vp9", seconds=1, rotation=90)
    assert "pyav: decord ignores the rotation by 90 degrees" in probe(turned).stdout
    assert "on average, variable" in probe(folder / "uneven.mp4").stdout


def test_a_folder_of_good_and_bad_videos_exits_3_and_names_the_problems(folder: Path) -> None:
    done = probe(folder)
    assert done.exit_code == 3
    assert "damaged: the file ends before the end that it declares" in done.stdout
    assert "not_video: is not a video that FFmpeg recognises" in " ".join(done.stdout.split())
    assert [line for line in done.stdout.splitlines() if line and not line.startswith(" ")] == [
        str(folder / name) for name in ("clip.mp4", "cut.mp4", "tape.mpg", "text.mp4", "uneven.mp4")
    ]


def test_decode_reads_a_video_to_its_end(folder: Path) -> None:
    declared, decoded = (json.loads(probe(folder / "cut.mp4", "--json", *more).stdout) for more in ([], ["--decode"]))
    assert declared["windows"] == 4 and 0 < decoded["windows"] < 4
    assert (declared["error_kind"], decoded["error_kind"]) == ("damaged", "damaged")
    assert decoded["facts"]["duration_s"] < declared["facts"]["duration_s"]


def test_json_is_an_object_a_line_for_each_video(folder: Path) -> None:
    rows = [json.loads(line) for line in probe(folder, "--json").stdout.splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["clip.mp4", "cut.mp4", "tape.mpg", "text.mp4", "uneven.mp4"]
    assert [row["error_kind"] for row in rows] == [None, "damaged", None, "not_video", None]
    assert rows[0]["facts"]["fps"] == 25 and rows[0]["choice"].keys() == {"decoder", "reason"}


def test_the_library_function_gives_the_same_facts(folder: Path) -> None:
    seen = inspect_video(folder / "clip.mp4", Sampling(hop_s=1.0), Preprocessing(), decode=True)
    assert (seen.windows, seen.rate_varies, seen.problems) == (4, False, ())
    missing = inspect_video(folder / "gone.mp4", Sampling(), Preprocessing())
    assert missing.error_kind == "missing" and missing.facts is None
