"""``vtag train`` and ``vtag evaluate``, run from the command line."""

import json
import re
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import Result

from jobs.cli import main
from jobs.cli.command.train_options import parse_groups
from tagger import load_model, read_model_info
from tagger.file_content import file_hash
from tests.click_runner import CliRunner
from tests.training.trees import CLASSES, hash_of, ucf11_tree, ucf101_tree, write_clip
from training import Split, TrainConfig, TrainResult, Watch, train
from training.data.data_set import DataSet
from training.inputs.clip_cache import ENDING

pytestmark = pytest.mark.usefixtures("shared_ray")


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], terminal_width=120)


@pytest.fixture
def without_ray_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains in this process. The other tests train on Ray, where each training starts six processes with torch."""

    def train_here(
        data: DataSet, split: Split, config: TrainConfig, *, watch: Watch, finish: bool, **_: object
    ) -> TrainResult:
        return train(data, split, config, watch=watch, finish=finish)

    monkeypatch.setattr("jobs.training.ray_train.train_with_ray", train_here)


class Unsafe:
    """An object whose pickle makes the file ``path`` when it is loaded."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self._path,)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101_tree(tmp_path_factory.mktemp("ucf101"), groups=5)


@dataclass(frozen=True)
class Trained:
    """A model file, and what its training printed."""

    out: Path
    output: str

    @property
    def report(self) -> Path:
        return self.out.with_suffix(".run") / "report"


@pytest.fixture(scope="module")
def trained(tree: Path, ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training with two epochs, and with a cache that has a file of an older version of vtag."""
    folder = tmp_path_factory.mktemp("trained")
    out, cache = folder / "model.safetensors", folder / "cache"
    cache.mkdir()
    (cache / f"{'0' * 32}.pixels1.npy").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", ray_address)
        result = vtag(
            *("train", tree, "--model", "cnn3d-lstm", "--out", out, "--cache", cache),
            *("--epochs", 2, "--batch-size", 4, "--val-groups", "04", "--test-groups", "05"),
        )
    assert result.exit_code == 0, result.output
    return Trained(out, result.output)


def test_train_prints_the_split_the_epochs_and_the_scores_that_evaluate_prints_too(
    tree: Path, trained: Trained, tmp_path: Path
) -> None:
    assert "10 clips of 2 classes" in trained.output
    assert "6 training, 2 validation, 2 test clips" in trained.output
    assert "Epoch 1/2" in trained.output and "Epoch 2/2" in trained.output
    assert f"vtag run YOUR_FOLDER --model {trained.out}" in trained.output
    # One window of each of the two clips.
    assert "Calibrated on 2 validation windows only: confidences are rough" in trained.output

    evaluated = vtag("evaluate", trained.out, tree, "--json", tmp_path / "scores.json")
    assert evaluated.exit_code == 0, evaluated.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["split"] == "test" and scores["videos"]["examples"] == 2
    accuracy = f"Accuracy: {scores['videos']['accuracy']:.3f} of videos"
    assert accuracy in evaluated.output and accuracy in trained.output

    alone = vtag("evaluate", trained.out, tree, "--split", "all", "--json", "-")
    assert json.loads(alone.output)["videos"]["examples"] == 10


def test_train_writes_the_report_that_evaluate_writes_and_names_it_at_the_end(
    tree: Path, trained: Trained, tmp_path: Path
) -> None:
    assert f"Report: {trained.report / 'report.html'}" in trained.output.splitlines()[-3:]
    assert vtag("evaluate", trained.out, tree, "--out", tmp_path).exit_code == 0
    assert {path.name for path in trained.report.iterdir()} == {path.name for path in tmp_path.iterdir()}
    assert {"confusion.png", "curves.png"} <= {path.name for path in tmp_path.iterdir()}
    for name in ("metrics.json", "curves.png"):
        assert (trained.report / name).read_bytes() == (tmp_path / name).read_bytes()


def test_kept_clips_of_another_version_of_vtag_are_removed_and_the_training_says_so(trained: Trained) -> None:
    cache = trained.out.with_name("cache")
    assert f"Removed 1 file from {cache}: another version of vtag" in trained.output
    kept = [path.name for path in cache.iterdir()]
    assert kept and all(name.endswith(ENDING) for name in kept)


def test_evaluate_removes_kept_clips_of_another_version_of_vtag(tree: Path, trained: Trained, tmp_path: Path) -> None:
    outdated = tmp_path / f"{'0' * 32}.pixels1.npy"
    outdated.touch()
    result = vtag("evaluate", trained.out, tree, "--cache", tmp_path)
    assert result.exit_code == 0 and f"Removed 1 file from {tmp_path}" in result.output
    assert not outdated.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_a_training_from_a_model_file_goes_on_with_its_scores(tree: Path, trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "more.safetensors"
    # At this learning rate the weights stay as they are.
    result = vtag(
        *("train", tree, "--from", trained.out, "--out", out, "--learning-rate", 1e-12, "--epochs", 1),
        *("--freeze-backbone", "--batch-size", 4, "--val-groups", "04", "--test-groups", "05", "--ema", 0.5),
    )
    assert result.exit_code == 0, result.output
    assert "Starting from model (cnn3d-lstm): backbone and head." in result.output
    before, after = read_model_info(trained.out), read_model_info(out)
    assert after.scores["videos"] == before.scores["videos"]
    assert after.architecture == "cnn3d-lstm"
    assert after.training["from"]["sha256"] == file_hash(trained.out)
    assert after.training["settings"]["ema"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("--from", "MINE", "--model", "i3d-lstm"), "the file is a model of cnn3d-lstm; leave out --model", 2),
        (("--from", "MINE", "--head", "mean"), "--head would change nothing: the model file of --from fixes it", 2),
        (("--from", "MINE", "--size", "224"), "--size would change nothing: the model file of --from fixes it", 2),
        (("--from", "MINE", "--input", "frames"), "--input would change nothing: the model file of --from fixes it", 2),
        (("--from", "MINE", "--view", "centre"), "--view would change nothing: the model file of --from fixes it", 2),
        (("--from", "i3d-kinetics400"), "--from i3d-kinetics400: name a model file, or actions38", 2),
        (("--from", "gone.safetensors"), "gone.safetensors does not exist", 1),
        (("--from", "PICKLE"), "is not a readable .safetensors file", 1),
    ],
)
def test_a_model_that_a_training_cannot_start_from_ends_it_with_one_line(
    tree: Path, trained: Trained, tmp_path: Path, arguments: tuple[str, ...], message: str, code: int
) -> None:
    pickled = tmp_path / "checkpoint.pth"
    torch.save(Unsafe(tmp_path / "executed"), pickled)
    files = {"MINE": trained.out, "PICKLE": pickled}
    result = vtag("train", tree, "--out", tmp_path / "m.safetensors", *(files.get(a, a) for a in arguments))
    assert result.exit_code == code
    assert message in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "executed").exists()


def test_a_dry_run_prints_classes_groups_hours_unreadable_clips_and_the_split(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "clips"
    shutil.copytree(tree, copy)
    (copy / "Down/v_Down_g01_c01.mp4").write_bytes(b"not a video")
    shutil.copy(copy / "Across/v_Across_g01_c01.mp4", copy / "Across/v_Across_g02_c02.mp4")
    looked = vtag("train", copy, "--dry-run", "--val-groups", "04", "--test-groups", "05")
    assert looked.exit_code == 0, looked.output
    assert "11 clips of 2 classes, in 10 groups." in looked.output
    assert "2 files are byte-identical" in looked.output
    assert "Across/v_Across_g01_c01.mp4 = Across/v_Across_g02_c02.mp4." in looked.output
    assert "Split by group: 7 training, 2 validation, 2 test clips." in looked.output
    skipped = [line for line in looked.output.splitlines() if line.startswith("Skipped: ")]
    assert len(skipped) == 1 and "Down/v_Down_g01_c01.mp4" in skipped[0]
    rows = {words[0]: words[1:] for words in map(str.split, looked.output.splitlines()) if words}
    # Groups, clips, seconds of video (40 frames each), unreadable; then clips and groups of each part.
    assert rows["Across"] == ["5", "6", "8.00", "s", "0", "4", "(3)", "1", "(1)", "1", "(1)"]
    assert rows["Down"] == ["5", "5", "5.33", "s", "1", "3", "(3)", "1", "(1)", "1", "(1)"]
    assert rows["all"][:5] == ["10", "11", "13.3", "s", "1"]
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_dry_run_says_how_a_training_from_a_model_file_begins(tree: Path, trained: Trained) -> None:
    looked = vtag("train", tree, "--dry-run", "--from", trained.out, "--val-groups", "01", "--test-groups", "02")
    assert looked.exit_code == 0, looked.output
    assert looked.output.splitlines()[-2:] == [
        "Starting from model (cnn3d-lstm): backbone and head.",
        "model was trained on 2 of the 2 test clips: the scores are too high.",
    ]


def test_a_dry_run_also_describes_a_data_set_that_cannot_be_split(tmp_path: Path) -> None:
    root = ucf101_tree(tmp_path / "clips", groups=2)
    looked = vtag("train", root, "--dry-run")
    assert looked.exit_code == 1
    assert "4 clips of 2 classes, in 4 groups." in looked.output
    assert looked.output.splitlines()[-1].startswith("vtag: class 'Across' has no clips left for train")


def test_a_dry_run_of_leave_one_out_lists_the_folds(tmp_path: Path) -> None:
    root = ucf11_tree(tmp_path / "UCF11_updated_mpg", groups=3)
    looked = vtag("train", root, "--dry-run", "--split", "logo")
    assert looked.exit_code == 0, looked.output
    assert "Leave one group out: 3 folds, a model for each." in looked.output
    rows = [line.split() for line in looked.output.splitlines()]
    assert all([group, "2", "2", "2"] in rows for group in ("01", "02", "03"))


@pytest.mark.slow
def test_a_manifest_with_parts_of_videos_trains_as_its_split_says(tmp_path: Path) -> None:
    for label in CLASSES:
        for part in ("train", "val", "test"):
            write_clip(tmp_path / f"{label}-{part}.mp4", label, hash_of(label, len(part), 1), frames=150)
    rows = [
        f"{label}-{part}.mp4,{label},{part},{start},{start + 2}"
        for label in CLASSES
        for part in ("train", "val", "test")
        for start in (0.5, 2.5)
    ]
    manifest = tmp_path / "clips.csv"
    manifest.write_text("\n".join(["path,label,split,start_s,end_s", *rows, "gone.mp4,Down,train,1,2"]))
    out = tmp_path / "model.safetensors"
    trained = vtag("train", manifest, "--model", "cnn3d-lstm", "--out", out, "--epochs", 1, "--batch-size", 4)
    assert trained.exit_code == 0, trained.output
    assert "Split as in clips.csv: 5 training, 4 validation, 4 test clips." in trained.output
    skipped = [line for line in trained.output.splitlines() if line.startswith("Skipped: ")]
    assert skipped and all("gone.mp4" in line for line in skipped)
    assert read_model_info(out).scores["videos"]["examples"] == 4
    assert read_model_info(out).scores["windows"]["examples"] == 4
    evaluated = json.loads(vtag("evaluate", out, manifest, "--json", "-").output)
    assert evaluated["videos"] == read_model_info(out).scores["videos"]


def test_official_lists_split_a_data_set(tree: Path, tmp_path: Path) -> None:
    names = [f"{label}/v_{label}_g{group:02}_c01.avi" for group in range(1, 6) for label in CLASSES]
    (tmp_path / "testlist01.txt").write_text("\n".join(names[:4]))
    (tmp_path / "trainlist01.txt").write_text("\n".join(f"{name} 1" for name in names[4:]))
    looked = vtag("train", tree, "--dry-run", "--split", tmp_path / "testlist01.txt")
    assert "Split as in testlist01.txt: 4 training, 2 validation, 4 test clips." in looked.output


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray_train")
def test_a_split_at_random_is_scored_next_to_one_by_group_with_a_warning(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    trained = vtag(
        *("train", tree, "--model", "cnn3d-lstm", "--out", out, "--split", "random"),
        *("--epochs", 1, "--batch-size", 4, "--val-groups", "04", "--test-groups", "05"),
    )
    assert trained.exit_code == 0, trained.output
    assert "A split at random leaks" in trained.output
    scores = read_model_info(out).scores
    rows = {
        name: row for row in trained.output.splitlines() for name in ("at random (leaks)", "by group ") if name in row
    }
    assert f"{scores['videos']['accuracy']:.3f}" in rows["by group "]
    assert len(re.findall(r"[01]\.\d{3}", rows["at random (leaks)"])) == 2
    # The model file is that of the split by group.
    assert read_model_info(out).training["groups"]["test"] == {"Across": ["05"], "Down": ["05"]}


@pytest.mark.slow
def test_leave_one_group_out_trains_a_model_for_each_group_of_ucf11(tmp_path: Path) -> None:
    root = ucf11_tree(tmp_path / "UCF11_updated_mpg", groups=3)
    broken = root / "down/v_falling_02/v_falling_02_07.mpg"
    broken.write_bytes(b"not a video")
    out = tmp_path / "folds.json"
    trained = vtag(
        *("train", root, "--model", "cnn3d-lstm", "--out", out, "--split", "logo"), *("--epochs", 1, "--batch-size", 4)
    )
    assert trained.exit_code == 0, trained.output
    results = json.loads(out.read_text())
    assert [fold["groups"] for fold in results["folds"]] == [["01"], ["02"], ["03"]]
    assert all(fold["videos"]["examples"] == 2 for fold in results["folds"])
    accuracies = [fold["videos"]["accuracy"] for fold in results["folds"]]
    assert results["video_accuracy"]["mean"] == pytest.approx(statistics.mean(accuracies))
    assert results["video_accuracy"]["deviation"] == pytest.approx(statistics.stdev(accuracies))
    assert (
        f"Accuracy: {statistics.mean(accuracies):.3f} ± {statistics.stdev(accuracies):.3f} of videos" in trained.output
    )
    assert trained.output.count("Fold ") == 3 and "Fold 3/3" in trained.output
    assert trained.output.count(str(broken)) == 1
    report = tmp_path / "folds.folds.run" / "report"
    assert f"Report: {report / 'report.html'}" in trained.output.splitlines()[-1:]
    assert {"confusion.png", "curves.png", "report.html"} <= {path.name for path in report.iterdir()}
    everything = json.loads((report / "metrics.json").read_text())["all_clips"]["videos"]
    assert sum(map(sum, everything["confusion"])) == 6
    assert everything["accuracy"] == pytest.approx(statistics.mean(accuracies))
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray_train")
def test_a_model_of_three_crops_is_trained_described_scored_and_tags(tree: Path, tmp_path: Path) -> None:
    out, tags = tmp_path / "three.safetensors", tmp_path / "tags.parquet"
    trained = vtag(
        *("train", tree, "--model", "cnn3d-lstm", "--view", "three", "--out", out, "--epochs", 1),
        *("--train-frames", 2, "--val-groups", "04", "--test-groups", "05"),
    )
    assert trained.exit_code == 0, trained.output
    assert read_model_info(out).preprocessing.view == "three"
    described = " ".join(vtag("models", out).output.split())
    assert "shorter side to 112, three crops 112×112: both ends and the middle" in described
    assert json.loads(vtag("evaluate", out, tree, "--json", "-").output)["videos"]["examples"] == 2
    tagged = vtag("run", tree, "--model", out, "--out", tags, "-q", "--actors", 1)
    assert tagged.exit_code == 0, tagged.output
    rows = pq.read_table(tags).to_pylist()
    for path, (segment,) in ((row["video"], load_model(str(out)).tag(row["video"])) for row in rows[:2]):
        (row,) = (row for row in rows if row["video"] == path)
        assert row["label"] == segment.label
        assert row["confidence"] == pytest.approx(segment.confidence, abs=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray_train")
def test_the_textbook_3d_cnn_is_trained_described_scored_compared_and_tags(tree: Path, tmp_path: Path) -> None:
    textbook, usual = tmp_path / "textbook.safetensors", tmp_path / "usual.safetensors"
    quick = ("--model", "cnn3d-lstm", "--epochs", 1, "--train-frames", 2, "--val-groups", "04", "--test-groups", "05")
    form = ("--input", "frames", "--size", 224, "--head", "lstm-last")
    for out, options in ((textbook, form), (usual, ())):
        trained = vtag("train", tree, "--out", out, *quick, *options)
        assert trained.exit_code == 0, trained.output
    described = " ".join(vtag("models", textbook).output.split())
    assert "options differences False head lstm-last" in described
    assert "the whole frame, squeezed to 224×224" in described
    assert "the whole frame, squeezed to 112×112" in " ".join(vtag("models", usual).output.split())
    assert json.loads(vtag("evaluate", textbook, tree, "--json", "-").output)["videos"]["examples"] == 2
    compared = json.loads(vtag("compare", textbook, usual, tree, "--json").output)
    gflops = [model["cost"]["gflop_per_window"] for model in compared["models"]]
    assert gflops[0] > 10 * gflops[1]
    tagged = vtag("run", tree, "--model", textbook, "--out", tmp_path / "tags.parquet", "-q", "--actors", 1)
    assert tagged.exit_code == 0, tagged.output
    assert len(set(pq.read_table(tmp_path / "tags.parquet")["video"].to_pylist())) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--test-groups", "9"), "there are no groups 9"),
        (("--leave-out", "Up"), "has no class 'Up' to leave out"),
    ],
)
def test_a_training_that_is_impossible_ends_with_one_line(
    tree: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = vtag("train", tree, "--out", tmp_path / "m.safetensors", *arguments, "-q")
    assert result.exit_code == 1
    assert message in result.output and len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "cnn3d-lstm", "--train-layers", "2"), "starts from scratch"),
        (
            ("--model", "i3d-lstm", "--input", "frames"),
            "--input is for cnn3d-lstm from scratch: the weights of i3d-lstm fix it",
        ),
        (("--size", "112"), "--size is for cnn3d-lstm from scratch: the weights of i3d-lite-lstm fix it"),
        (("--out", "/nowhere/at/all.safetensors"), "the folder /nowhere/at does not exist"),
        (("--split", "logo", "--out", "/nowhere/at/folds.json"), "the folder /nowhere/at does not exist"),
    ],
)
def test_invalid_settings_are_reported_before_the_clips_are_read(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    # The folder has no clips, but the error is about the settings.
    result = vtag("train", tmp_path, "--out", tmp_path / "m.safetensors", *arguments)
    assert result.exit_code == 1
    assert message in result.output and len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing option '--out'"),
        (("--out", "m.safetensors", "--split", "logo"), "--out must end in .json, such as folds.json"),
        (("--out", "f.json", "--split", "logo", "--test-groups", "1"), "are for --split holdout and random"),
        (("--out", "m.safetensors", "--device", "cpu", "--gpus", "1"), "--device cpu and --gpus contradict"),
        (
            ("--out", "m.safetensors", "--model", "cnn3d-lstm", "--head-epochs", "8"),
            "--head-epochs would change nothing: cnn3d-lstm starts from scratch",
        ),
        (
            ("--out", "m.safetensors", "--model", "cnn3d-lstm", "--pretrained-rate", "0.1"),
            "--pretrained-rate would change nothing: cnn3d-lstm starts from scratch",
        ),
        (
            ("--out", "m.safetensors", "--model", "cnn3d-lstm", "--decay-to-start"),
            "--decay-to-start would change nothing: cnn3d-lstm starts from scratch",
        ),
        (
            ("--out", "m.safetensors", "--freeze-backbone", "--decay-to-start"),
            "--decay-to-start would change nothing: the head alone is trained, for --epochs",
        ),
        (
            ("--out", "m.safetensors", "--decay-to-start", "--weight-decay", "0"),
            "--decay-to-start would change nothing: --weight-decay 0 decays nothing",
        ),
        (
            ("--out", "m.safetensors", "--optimizer", "lbfgs", "--learning-rate", "0.1"),
            "--learning-rate would change nothing: --optimizer lbfgs takes all windows at once",
        ),
        (("--out", "m.safetensors", "--ema", "1"), "is not in the range 0<x<1"),
        (
            ("--out", "m.safetensors", "--freeze-backbone", "--train-frames", "8"),
            "--train-frames would change nothing: the head alone is trained, for --epochs",
        ),
        (
            ("--out", "m.safetensors", "--train-layers", "0", "--head-epochs", "3"),
            "--head-epochs would change nothing: the head alone is trained, for --epochs",
        ),
        (
            ("--out", "f.json", "--split", "logo", "--workers", "2"),
            "--workers would change nothing: each fold of --split logo is trained by one worker",
        ),
        (
            ("--out", "m.safetensors", "--cache", "clips", "--cache-size", "0"),
            "--cache would change nothing: --cache-size 0 keeps nothing",
        ),
        (("--out", "m.safetensors", "--split", "half"), "'half' is none of holdout, logo and random, and no file"),
    ],
)
def test_options_that_do_not_fit_together_are_a_usage_error(
    tree: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = vtag("train", tree, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_evaluating_only_unknown_classes_is_refused(tree: Path) -> None:
    result = vtag("evaluate", "actions38", tree)
    assert result.exit_code == 1
    assert "has none of the classes that the model actions38 knows, but Across, Down" in result.output


@pytest.mark.parametrize(
    ("text", "groups"),
    [("17", ("17",)), ("17,19", ("17", "19")), ("08-10", ("08", "09", "10")), ("home, park", ("home", "park"))],
)
def test_groups_are_listed_or_given_as_a_range(text: str, groups: tuple[str, ...]) -> None:
    assert parse_groups(text) == groups


@pytest.mark.parametrize("text", ["", ",", "9-7"])
def test_invalid_lists_of_groups_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_groups(text)
