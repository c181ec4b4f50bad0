"""`vtag evaluate` and `vtag compare` on the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from jobs.cli import main
from jobs.tagging.prediction import Predictor
from jobs.tagging.transport import span_to_table
from tagger import load_model, read_model_info, save_model_file
from tagger.isolation import decoder_of_this_thread
from tagger.model_file import read_weights
from tests.click_runner import CliRunner
from tests.training.reads import recorded_reads
from tests.training.trees import ucf101_tree, write_clip
from training import LoopSettings, TrainConfig, evaluate_clips, read_data_set, split_by_group, train
from training.data.training_plan import plan_training, read_labelled
from training.evaluation.evaluate import Verdict
from training.inputs.clip_cache import ClipCache
from training.inputs.forms import Windows
from training.inputs.ingest import ClipStore
from training.report.page import show_mistakes


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], terminal_width=120, env={"COLUMNS": "120"}
    )


def altered(model: Path, out: Path, **changes: object) -> Path:
    """Copies a model file, with changes of its metadata."""
    save_model_file(out, replace(read_model_info(model), **changes), read_weights(model))  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101_tree(tmp_path_factory.mktemp("ucf101"), groups=5)


@pytest.fixture(scope="module")
def model(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with training groups 01 and 02 of the tree, validation group 03, and test groups 04 and 05."""
    out = tmp_path_factory.mktemp("model") / "first.safetensors"
    data = read_data_set(tree)
    split = split_by_group(data, val_groups=("03",), test_groups=("04", "05"))
    train(data, split, TrainConfig("cnn3d-lstm", out, loop=LoopSettings(epochs=1, batch_size=4)))
    return out


def test_evaluate_prints_scores_with_intervals_by_video_and_by_window(tree: Path, model: Path) -> None:
    result = vtag("evaluate", model, tree)
    assert result.exit_code == 0, result.output
    lines = [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in result.output.splitlines()
    ]
    scores = json.loads(vtag("evaluate", model, tree, "--json", "-").output)
    row = next(line for line in lines if line[0] == "accuracy")
    for cell, level in zip(row[1:], ("videos", "windows"), strict=True):
        interval = next(row for row in scores[level]["intervals"] if row["score"] == "accuracy")
        assert cell == f"{scores[level]['accuracy']:.3f} ({interval['low']:.2f}–{interval['high']:.2f})"
    assert {"precision, macro", "F1, weighted", "calibration error, temperature 1"} <= {line[0] for line in lines}
    assert ["class", "precision", "recall", "F1", "videos", "groups"] in lines
    assert next(line for line in lines if line[0] == "Across")[-2:] == ["2", "2"]


def test_evaluate_writes_a_report_metrics_and_plots(tree: Path, model: Path, tmp_path: Path) -> None:
    result = vtag("evaluate", model, tree, "--split", "all", "--out", tmp_path / "a" / "judged")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "a" / "judged"
    assert f"Report: {folder / 'report.html'}" in result.output
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png",
        "curves.png",
        "f1.png",
        "metrics.json",
        "reliability-videos.png",
        "reliability-windows.png",
        "report.html",
    ]
    metrics = json.loads((folder / "metrics.json").read_text())
    right = [clip["predicted"] == clip["label"] for clip in metrics["clips"]]
    assert len(right) == 10 and np.mean(right) == metrics["videos"]["accuracy"]
    bins = metrics["reliability"]["windows"]["after"]["bins"]
    assert sum(each["examples"] for each in bins) == metrics["windows"]["examples"]
    report = (folder / "report.html").read_text("utf-8")
    assert "Evaluation of first" in report and "10 of 2 classes, in 10 groups" in report
    # Five plots and a picture of each mistake.
    assert report.count("<img") == 5 + right.count(False)


def test_a_trained_model_gives_segments_an_ood_score_and_a_job_writes_it(tree: Path, model: Path) -> None:
    tagger = load_model(str(model), device="cpu")
    source = tagger.source
    # Two clips of group 03, each of one window.
    assert source.info.ood is not None and len(source.info.ood.energies) == 2
    clip = tree / "Down" / "v_Down_g05_c01.mp4"
    (segment,) = tagger.tag(clip)
    assert segment.ood_score in (0, 0.5, 1)
    predict = Predictor(source, None, tagger.sampling, "cpu", torch.get_num_threads(), 5, None)
    spans = decoder_of_this_thread().spans(clip, tagger.sampling, source.info.preprocessing)
    tables = [predict(span_to_table(0, span, 0.1)) for span in spans]
    assert [score for table in tables for score in table["ood_score"].to_pylist()] == [segment.ood_score]


def test_clips_of_classes_that_the_model_does_not_know_count_as_unknown_footage(
    tree: Path, model: Path, tmp_path: Path
) -> None:
    wider = tmp_path / "wider"
    shutil.copytree(tree, wider)
    for group in range(3):
        write_clip(wider / "Third" / f"v_Third_g{group:02}_c01.mp4", "Down", 700 + group, frames=90)
    result = vtag("evaluate", model, wider, "--out", tmp_path / "judged")
    assert result.exit_code == 0, result.output
    assert "AUROC, by energy" in result.output
    assert "Classes that the model does not know: Third." in " ".join(result.output.split())
    metrics = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    unknown = metrics.pop("unknown")
    assert unknown["classes"] == ["Third"]
    assert (unknown["videos"]["known"], unknown["videos"]["unknown"]) == (4, 3)
    assert unknown["windows"]["unknown"] == 6
    assert unknown["caught"] is not None and unknown["lost"] is not None
    report = (tmp_path / "judged" / "report.html").read_text("utf-8")
    assert "Footage of other classes" in report and f"{unknown['windows']['auroc']:.3f}" in report
    # All other metrics are unchanged.
    assert vtag("evaluate", model, tree, "--out", tmp_path / "plain").exit_code == 0
    plain = json.loads((tmp_path / "plain" / "metrics.json").read_text())
    assert {**metrics, "clips": None} == {**plain, "clips": None}


def test_compare_lists_the_classes_that_it_leaves_out(tree: Path, model: Path, tmp_path: Path) -> None:
    wider = tmp_path / "wider"
    shutil.copytree(tree, wider)
    shutil.copytree(tree / "Down", wider / "Third")
    other = altered(model, tmp_path / "other.safetensors", temperature=2.0)
    result = vtag("compare", model, other, wider)
    assert result.exit_code == 0, result.output
    assert "Left out, because the models do not know them: Third." in result.output
    assert "4 clips (test), by video" in result.output


def test_curves_are_drawn_when_the_model_file_has_its_epochs(tree: Path, model: Path, tmp_path: Path) -> None:
    training = read_model_info(model).training
    known = altered(model, tmp_path / "known.safetensors", training={**training, "epochs": [training["best_epoch"]]})
    assert vtag("evaluate", known, tree, "--out", tmp_path / "judged").exit_code == 0
    assert (tmp_path / "judged" / "curves.png").exists()


def test_the_calibration_before_is_that_of_the_same_model_at_temperature_1(
    tree: Path, model: Path, tmp_path: Path
) -> None:
    """It does not depend on the temperature of the model file."""
    clips = read_data_set(tree).clips
    plain, warm, cold = (
        evaluate_clips(load_model(str(altered(model, tmp_path / f"{t}.safetensors", temperature=t))), clips)
        for t in (1.0, 2.0, 0.1)
    )
    for other in (warm, cold):
        assert other.windows_calibration.before.error == pytest.approx(plain.windows_calibration.after.error, abs=1e-4)
        assert other.videos_calibration.before.error == pytest.approx(plain.videos_calibration.after.error, abs=1e-4)
    assert warm.windows_calibration.after.error != pytest.approx(plain.windows_calibration.after.error, abs=1e-4)


def test_a_mistake_is_shown_by_the_middle_frame_as_the_tagger_sees_it(tree: Path, model: Path, tmp_path: Path) -> None:
    info = read_model_info(model)
    clip = next(clip for clip in read_data_set(tree).clips if clip.label == "Across")
    gone = replace(clip, path=tmp_path / "gone.mp4")
    shown, missing = show_mistakes(
        [Verdict(clip, "Down", 0.9), Verdict(gone, "Down", 0.8)], info.sampling, info.preprocessing
    )
    assert missing.jpeg is None
    assert shown.jpeg is not None
    (tmp_path / "shown.jpg").write_bytes(shown.jpeg)
    with Image.open(tmp_path / "shown.jpg") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape == (112, 112, 3)
    is_red = (pixels[..., 0] > 150) & (pixels[..., 2] < 130)
    assert 0.02 < is_red.mean() < 0.3


def test_compare_prints_and_writes_one_table_of_scores_and_costs(tree: Path, model: Path, tmp_path: Path) -> None:
    second = altered(model, tmp_path / "second.safetensors", temperature=3.0)
    result = vtag("compare", model, second, tree, "--out", tmp_path / "compared")
    assert result.exit_code == 0, result.output
    assert "4 clips (test), by video" in result.output
    for text in ("F1, macro", "parameters", "GFLOP per window", "model file", "windows/s here", "first against second"):
        assert text in result.output, text
    metrics = json.loads((tmp_path / "compared" / "metrics.json").read_text())
    assert [each["name"] for each in metrics["models"]] == ["first", "second"]
    assert metrics["models"][0]["cost"]["file_bytes"] == model.stat().st_size
    assert metrics["models"][0]["cost"]["windows_per_s"] > 0
    # A temperature changes the confidences, but not the predicted labels.
    assert metrics["pairs"][0]["p"] == 1
    report = (tmp_path / "compared" / "report.html").read_text("utf-8")
    assert report.count("data:image/png;base64,") == 2 == len(list((tmp_path / "compared").glob("confusion-*.png")))


def test_compare_judges_on_clips_that_no_model_was_trained_on(tree: Path, model: Path, tmp_path: Path) -> None:
    training = read_model_info(model).training
    held_out = {"test": {"Across": ["03", "05"], "Down": ["05"]}}
    other = altered(model, tmp_path / "other.safetensors", training={**training, "groups": held_out})
    metrics = json.loads(vtag("compare", model, other, tree, "--json").output)
    assert [each["videos"]["examples"] for each in metrics["models"]] == [2, 2]


@pytest.fixture
def split_tree(tree: Path, tmp_path: Path) -> Path:
    """Two clips of each class in ``train``, one in ``Valid`` and two in ``test``. Their names are the same."""
    for clip in read_data_set(tree).clips:
        part, number = {
            "01": ("train", 1),
            "02": ("train", 2),
            "03": ("Valid", 1),
            "04": ("test", 1),
            "05": ("test", 2),
        }[clip.group]
        folder = tmp_path / "split" / part / clip.label
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, folder / f"{number}.mp4")
    return tmp_path / "split"


def test_evaluate_and_compare_score_the_test_folder_of_the_tree_that_a_model_was_trained_on(
    split_tree: Path, model: Path, tmp_path: Path
) -> None:
    """The groups of the model file are those that ``vtag train`` writes for this tree."""

    def scores(*arguments: object) -> dict:
        result = vtag("evaluate", *arguments, "--json", "-")
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    split = plan_training(read_labelled(split_tree)).split
    assert split is not None
    training = {**read_model_info(model).training, "groups": {part: split.groups(part) for part in ("val", "test")}}
    mine = altered(model, tmp_path / "mine.safetensors", training=training)
    assert scores(mine, split_tree)["videos"]["examples"] == 4
    assert scores(mine, split_tree, "--split", "val")["videos"]["examples"] == 2
    assert scores(mine, split_tree, "--split", "all")["videos"]["examples"] == 10
    tested = scores(mine, split_tree / "test", "--split", "all")
    assert tested["videos"] == scores(mine, split_tree)["videos"]
    folder = tmp_path / "judged"
    assert vtag("evaluate", mine, split_tree, "--out", folder).exit_code == 0
    judged = json.loads((folder / "metrics.json").read_text())["clips"]
    assert {Path(clip["path"]).parts[-3] for clip in judged} == {"test"}
    other = altered(mine, tmp_path / "other.safetensors", temperature=2.0)
    metrics = json.loads(vtag("compare", mine, other, split_tree, "--json").output)
    assert [each["videos"]["examples"] for each in metrics["models"]] == [4, 4]
    # A model that does not know the tree is not scored on clips by chance.
    result = vtag("evaluate", model, split_tree)
    assert result.exit_code == 1 and "has none of the groups that the model held out for test" in result.output


def test_models_of_the_same_name_are_named_by_their_paths(tree: Path, model: Path, tmp_path: Path) -> None:
    same = Path(shutil.copy(model, tmp_path / model.name))
    metrics = json.loads(vtag("compare", model, same, tree, "--json").output)
    assert [each["name"] for each in metrics["models"]] == [str(model), str(same)]


def test_models_that_cannot_be_compared_are_refused_in_one_line(tree: Path, model: Path, tmp_path: Path) -> None:
    info = read_model_info(model)
    no_groups = altered(model, tmp_path / "no_groups.safetensors", training={})
    other_labels = altered(model, tmp_path / "other_labels.safetensors", labels=("Across", "Up"))
    other_groups = altered(
        model, tmp_path / "other_groups.safetensors", training={**info.training, "groups": {"test": {"Down": ["01"]}}}
    )
    for other, message in (
        (no_groups, "does not record its test groups; use --split all"),
        (other_labels, "only first knows Down and only other_labels knows Up"),
        (other_groups, "no clip in"),
    ):
        result = vtag("compare", model, other, tree)
        assert result.exit_code == 1
        assert message in result.output and len(result.output.splitlines()) == 1
    assert vtag("compare", model, tree).exit_code == 2
    assert vtag("compare", model, model, tree).exit_code == 2


def test_with_a_cache_the_scores_are_the_same_and_no_video_is_read_again(
    tree: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(*options: object) -> dict:
        result = vtag("evaluate", model, tree, "--json", "-", "--device", "cpu", *options)
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    cache = "--cache", tmp_path / "cache"
    assert scores(*cache) == scores()
    reads = recorded_reads(monkeypatch)
    assert scores(*cache) == scores(*cache, "--cache-size", 0)
    # Another head for the same features.
    other = altered(model, tmp_path / "other.safetensors", temperature=2.0)
    assert vtag("compare", model, other, tree, "--device", "cpu", *cache).exit_code == 0
    assert reads == []
    assert scores("--cache", tmp_path / "empty", "--cache-size", 0) == scores(*cache)
    assert len(reads) == 4 and not list((tmp_path / "empty").iterdir())


def test_windows_in_the_cache_are_not_decoded_again_and_a_missing_clip_is_unreadable(
    tree: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagger = load_model(str(model), device="cpu")
    clips = read_data_set(tree).clips
    gone = replace(clips[0], path=tmp_path / "gone.mp4")
    expected = evaluate_clips(tagger, [*clips, gone])
    cache = ClipCache(tmp_path / "cache")
    ClipStore(clips, Windows(tagger.sampling, tagger.source.info.preprocessing), cache)
    reads = recorded_reads(monkeypatch)
    problems: list[str] = []
    found = evaluate_clips(
        tagger, [*clips, gone], on_clip=lambda _, problem: problems.append(problem or ""), cache=cache
    )
    assert found == expected and found.unreadable == 1
    assert reads == [gone.path]
    assert problems[:-1] == [""] * len(clips) and str(gone.path) in problems[-1]
