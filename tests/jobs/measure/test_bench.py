"""``vtag bench`` measures each part and the whole, and draws the right conclusion."""

import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest
from av.video.frame import PictureType
from rich.console import Console

from jobs.archive.video import Video
from jobs.cli import main
from jobs.cli.terminal.bench_report import print_bench
from jobs.measure.bench import _ceiling, _neighbour_means, _Pipeline, _repeat_to_length
from jobs.measure.figures import Bench
from jobs.measure.rates import ModelRate, medians, rates_of_fastest
from jobs.measure.sample_video import make_sample
from jobs.tagging.decode_trial import DecodeRate
from tagger.video.facts import VideoFacts, probe
from tests.benchmarks import ratios
from tests.click_runner import CliRunner
from tests.videos import encode

if TYPE_CHECKING:
    from tests.jobs.s3_server import Bucket

MEASURED = Bench(
    model_name="actions38",
    precision="bf16",
    device="cpu",
    cores=2,
    facts=VideoFacts("mp4", "h264", 320, 240, 25.0, 60.0, 1500, 0.0, 1 / 12800, 0, False),
    reader="pyav",
    decode=(DecodeRate("decord", 2, 9e9, 9e9), DecodeRate("pyav", 1, 3000, 50), DecodeRate("pyav", 2, 5400, 90)),
    model=(ModelRate("bf16", 2, 1, 10.0, 0.5), ModelRate("fp32", 2, 1, 99.0, 0.9)),
    gflop_per_window=12.3,
    gflop_per_s={"fp32": 300.0, "bf16": 2000.0},
    window_bytes=2_408_448,
    transport_mb_per_s=2000.0,
    ceilings=(9.0, 6.0, 9.2),
    pipelines=(8.1, 6.0, 8.1),
    start_s=8.2,
    hop_s=2.0,
    video_s_per_window=2.0,
)


def test_on_shared_cores_a_window_costs_its_decoding_and_its_classification() -> None:
    # 90 windows/s decoded, or 10 classified: 1 / (1 / 90 + 1 / 10) = 9 of both.
    assert _ceiling(90, 10, "cpu") == pytest.approx(9)
    assert MEASURED.bottleneck == "model"


def test_beside_a_gpu_the_slower_part_counts() -> None:
    assert _ceiling(90, 900, "cuda") == _ceiling(900, 90, "cuda") == 90
    gpu = replace(
        MEASURED, device="cuda", model=(ModelRate("bf16", 1, 16, 999.0, 0.5), ModelRate("bf16", 2, 16, 80.0, 1))
    )
    # The rate of both actors together counts, also when one alone was faster.
    assert (gpu.model_windows_per_s, gpu.bottleneck) == (80, "model")
    assert replace(gpu, model=(ModelRate("bf16", 2, 16, 900.0, 0.5),)).bottleneck == "decoding"


def test_a_pipeline_is_compared_with_what_its_parts_did_around_it() -> None:
    # The machine was slower in the second round; only there the pipeline reached its ceiling.
    assert MEASURED.efficiencies == pytest.approx([0.9, 1.0, 0.88], abs=0.001)
    assert MEASURED.efficiency == pytest.approx(0.9)
    assert MEASURED.realtime == pytest.approx(16.2)
    assert _neighbour_means([10.0, 20.0, 12.0]) == [15.0, 16.0]


def test_windows_that_were_decoded_during_the_start_do_not_count_as_work() -> None:
    run = _Pipeline(windows=30, video_s=60, decoded=10, predicted=20, passed_s=2.0, start_s=5.0)
    # 10 s of decoding and 20 s of classification in two seconds; a window costs 2 s.
    assert run.windows_per_s(decode_per_s=1.0, model_per_s=1.0) == pytest.approx(30 / 2 / 2)
    assert run.windows_per_s(decode_per_s=1e9, model_per_s=1.0) == pytest.approx(20 / 2)


def test_repeated_measurements_count_by_their_median() -> None:
    model = [
        ModelRate("bf16", 1, 1, 99.0, 0.1),
        ModelRate("bf16", 2, 1, 30.0, 0.7),
        ModelRate("bf16", 2, 4, 20.5, 0.5),
        ModelRate("bf16", 2, 1, 19.0, 0.3),
        ModelRate("bf16", 2, 4, 20.1, 0.4),
        ModelRate("bf16", 2, 1, 18.0, 0.4),
        ModelRate("bf16", 2, 4, 20.7, 0.6),
    ]
    assert medians(model) == [model[0], ModelRate("bf16", 2, 1, 19.0, 0.4), ModelRate("bf16", 2, 4, 20.5, 0.5)]
    # The rates of the batch size with the best median: not the best rate of each round, and nothing measured only once.
    assert rates_of_fastest(model, 3) == [20.5, 20.1, 20.7]


@pytest.mark.parametrize(("device", "advice"), [("cpu", "smaller model would help"), ("cuda", "more GPUs")])
def test_the_report_ends_with_the_efficiency_and_with_advice(device: str, advice: str) -> None:
    console = Console(file=io.StringIO(), width=120)
    print_bench(replace(MEASURED, device=device), console)
    assert isinstance(console.file, io.StringIO)
    text = " ".join(console.file.getvalue().split())
    for part in ("pyav, 2 cores 90.0 5,400 frames/s", "bf16, 2 actors, batch 1 10.0 50 % of the peak", advice):
        assert part in text
    assert "Efficiency 90 % of the 9.00 windows/s" in text
    how = "together on the same cores" if device == "cpu" else "side by side"
    assert f"{how}, the median of 90 %, 100 %, 88 %." in text
    assert "8.10 16.2× real time, after 8.20 s of start-up" in text
    # A core decodes 50 windows/s, the model classifies 10.
    assert ("At 320×240 the model keeps up with what 0.20 cores decode." in text) == (device == "cuda")


def test_fast_decoding_is_suggested_when_decoding_is_the_bottleneck_and_it_would_help() -> None:
    for windows_per_s, is_suggested in ((180.0, True), (91.0, False)):
        fast = DecodeRate("pyav-fast", 2, 60 * windows_per_s, windows_per_s)
        slow_decoding = replace(MEASURED, decode=(*MEASURED.decode, fast), model=(ModelRate("bf16", 2, 1, 900.0, 0.5),))
        console = Console(file=io.StringIO(), width=120)
        print_bench(slow_decoding, console)
        assert isinstance(console.file, io.StringIO)
        text = " ".join(console.file.getvalue().split())
        assert ("--fast-decode" in text) == ("--fast-decode, which decodes 2.00 times as fast" in text) == is_suggested


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_bench_measures_a_video_of_the_user(model_file: Path, tmp_path: Path) -> None:
    video = encode(tmp_path / "video.mp4", seconds=20, rate=25)
    command = ["bench", str(video), "--model", str(model_file), "--seconds", "0.2", "--rounds", "2", "--device", "cpu"]
    command.append("--json")
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert {(each["reader"], each["cores"]) for each in measured["decode"]} == {
        (reader, cores) for reader in ("pyav", "pyav-fast") for cores in (1, 2)
    }
    for each in measured["decode"]:
        # A window is 53 frames; 500 frames are ten windows, the last one incomplete.
        assert 49.99 < each["frames_per_s"] / each["windows_per_s"] < 53.34
    assert {each["actors"] for each in measured["model"]} == {1, 2}
    kinds = [(each["precision"], each["actors"], each["batch_size"]) for each in measured["model"]]
    assert len(set(kinds)) == len(kinds)
    assert measured["precision"] in {each["precision"] for each in measured["model"]} == set(measured["gflop_per_s"])
    for name in ("pipeline_windows_per_s", "transport_mb_per_s", "gflop_per_window", "start_s", "efficiency"):
        assert measured[name] > 0, name
    assert len(measured["ceilings"]) == len(measured["pipelines"]) == 2
    # A window has about two seconds of video, the last one of a video less.
    assert 1.9 < measured["realtime"] / measured["pipeline_windows_per_s"] < 2.14
    assert measured["window_bytes"] == 16 * 32 * 32 * 3
    assert measured["reader"] == "pyav"


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_bench_measures_sparse_windows(model_file: Path, tmp_path: Path) -> None:
    video = encode(tmp_path / "video.mp4", seconds=20, rate=25)
    options = ["--seconds", "0.2", "--rounds", "1", "--device", "cpu", "--every", "5s", "--json"]
    result = CliRunner().invoke(main, ["bench", str(video), "--model", str(model_file), *options])
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert measured["reader"] == "pyav-sparse" and measured["hop_s"] == 5
    assert {each["reader"] for each in measured["decode"]} == {"pyav", "pyav-sparse", "pyav-sparse-fast"}
    # Four windows are 20 s of video with their pauses.
    assert measured["realtime"] / measured["pipeline_windows_per_s"] == pytest.approx(5)


def test_no_readable_video_is_an_error_of_one_line(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    result = CliRunner().invoke(main, ["bench", str(tmp_path / "text.mp4"), "--model", str(model_file)])
    assert result.exit_code == 1
    assert result.stderr.strip().endswith(
        "none of the videos can be opened and has a known length; `vtag probe VIDEO` shows why"
    )


def test_windows_closer_than_their_samples_are_an_error_of_one_line(model_file: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "--model", str(model_file), "--every", "1ms"])
    assert result.exit_code == 1
    assert result.stderr.strip().endswith(
        "windows every 0.001 s are too close: with this model they can be 0.134 s apart or more, the distance of two "
        "frames of a window"
    )


def test_videos_in_a_bucket_are_an_error_of_one_line(model_file: Path, bucket: "Bucket") -> None:
    bucket.put("videos/a.mp4", b"content")
    result = CliRunner().invoke(main, ["bench", f"{bucket.address}/videos/a.mp4", "--model", str(model_file)])
    assert result.exit_code == 1
    assert "measures this machine with local videos; copy some from the bucket first" in result.stderr


def test_videos_are_repeated_to_the_length_that_a_measurement_needs() -> None:
    facts = replace(MEASURED.facts, duration_s=10.0)
    videos = [(Video(f"{number}.mp4", 1, 1), facts) for number in range(3)]
    assert [video.path for video in _repeat_to_length(videos, 15.0)] == ["0.mp4", "1.mp4"]
    assert [video.path for video in _repeat_to_length(videos, 35.0)] == ["0.mp4", "1.mp4", "2.mp4", "0.mp4"]


def test_the_sample_video_is_a_minute(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "sample.mp4")
    facts = probe(sample)
    assert (facts.codec, facts.width, facts.height, facts.duration_s, facts.frames) == ("h264", 320, 240, 60.0, 1500)
    with av.open(str(sample)) as container:
        kinds = Counter(PictureType(frame.pict_type).name for frame in container.decode(video=0))
    # A key frame every 2 s, and more B-frames than others.
    assert 30 <= kinds["I"] <= 32 and kinds["B"] > 750


def test_two_measurements_are_compared_as_ratios(tmp_path: Path) -> None:
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    slower = replace(MEASURED, pipelines=tuple(each / 2 for each in MEASURED.pipelines))
    for file, measured in zip(files, (MEASURED, slower), strict=True):
        file.write_text(json.dumps(measured.to_json()))
    same = CliRunner().invoke(ratios.main, [str(files[0]), str(files[0])])
    assert same.exit_code == 0 and "slower" not in same.output
    assert "  1.00        5400 ->       5400  decode pyav 2, frames_per_s" in same.output
    worse = CliRunner().invoke(ratios.main, [str(file) for file in files])
    assert worse.exit_code == 1
    slower_figures = [line.split()[-2] for line in worse.output.splitlines() if line.endswith("slower")]
    assert slower_figures == ["pipeline_windows_per_s", "efficiency"]
