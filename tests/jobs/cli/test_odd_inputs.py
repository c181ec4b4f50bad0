"""What the commands say about paths, lists, results and numbers that a user has or types by mistake.

Each command line is tried with each odd thing in the place of ``{x}``. It ends with one clear line, which names the
thing, and never with the name of an exception. Ray is left out.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import click
import pytest

import jobs.browse.report.thumbnails
import jobs.browse.view.server
import jobs.cli.command.train_with_progress
import jobs.cli.demo
import jobs.cluster.ray_driver
import jobs.measure.bench
import jobs.result.lock
import jobs.tagging.dry_run
import jobs.tagging.run
import jobs.watching.folder
import jobs.watching.job_runner
import jobs.watching.watch_job
import tagger
import tagger.tagger
import training.data.inventory
import training.evaluation.cost
import training.evaluation.evaluate
from jobs.archive.video import Video
from jobs.cli import COMMANDS, main
from jobs.cli.terminal.wording import printable
from jobs.result.identity import RunIdentity
from jobs.tagging.decoding import decode
from jobs.tagging.tasks import video_table
from jobs.tagging.transport import segments_table
from tagger import ModelSource, find_model
from tagger.errors import VideoError
from tagger.models.registry import builtin_model_path
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up_models import identity_of, write_model
from tests.jobs.browse.teaching.taught_archive import Archive, make_archive
from tests.jobs.cli import odd_things
from tests.jobs.result import finished
from tests.rights import without_rights
from training.data.training_plan import TrainingPlan
from training.fitting.config import TrainConfig
from training.fitting.recipe import open_cache, open_run, starting_network
from training.fitting.run_folder import RunFolder

TRAIN = "train {clips} --model cnn3d-lstm --val-groups 2 --test-groups 3 -q"

TRAIN_NUMBERS = (
    *("--train-layers", "--train-frames", "--head-epochs", "--cache-size", "--epochs", "--batch-size", "--seed"),
    *("--learning-rate", "--pretrained-rate", "--weight-decay", "--ema", "--patience", "--workers", "--gpus"),
)

RUN_NUMBERS = ["--hop", "--every", "--overlap", "--top-k", "--batch-size", "--actors", "--max-failures", "--max-prune"]

WATCH_NUMBERS = ["--hop", "--smooth", "--min-confidence", "--top-k", "--roll", "--port"]

QUESTION_NUMBERS = {
    "events": ("--smooth", "--min-confidence", "--min-duration", "--max-gap"),
    "search": ("--top", "--max-ood"),
    "similar": ("--min-similarity", "--min-duration"),
    "clusters": ("--count", "--moments"),
    "uncertain": ("--top", "--max-ood"),
    "cut": ("--top", "--min-confidence", "--pad"),
    "export": ("--smooth", "--min-confidence", "--min-duration", "--max-gap"),
}

LINES: Mapping[str, Sequence[tuple[str, str]]] = {
    "run": [
        ("paths", "run {x} --out {out}"),
        ("paths", "run {x}* --out {out}"),
        ("list files", "run @{x} --out {out} --dry-run"),
        ("lists", "run - --out {out}"),
        ("paths", "run {video} --out {x}"),
        ("paths", "run {video} --out {out} --model {x}"),
        ("paths", "run {video} --out {out} --model i3d-kinetics400 --weights {x} --dry-run"),
        ("texts", "run {video} --out {out} --ext {x} --exclude {x} --include {x} --dry-run"),
        ("paths", "run {video} --out {out} --only {x} --dry-run"),
        ("results", "run {video} --out {out} --only {x} --dry-run"),
        ("results", "run {video} --out {x} --model {mine}"),
        ("results", "run {video} --out {x} --model {mine} --overwrite"),
        ("results", "run {video} --out {x} --model {mine} --dry-run --prune"),
        *(("numbers", f"run {{video}} --out {{out}} --dry-run {option}={{x}}") for option in RUN_NUMBERS),
    ],
    "watch": [
        ("paths", "watch {x} --out seen"),
        ("paths", "watch {clips} --out {x} --settle 1ms"),
        ("results", "watch {clips} --out {x} --settle 1ms"),
        ("numbers", "watch {clips} --out {out} --settle={x}"),
        ("paths", "watch {x}"),
        ("texts", "watch {video} --on {x} --exec true"),
        ("paths", "watch {video} --out {x}"),
        ("results", "watch {video} --out {x}"),
        ("paths", "watch {video} --model {x}"),
        ("paths", "watch {video} --min-confidence {x}"),
        *(("numbers", f"watch {{video}} {option}={{x}}") for option in WATCH_NUMBERS),
    ],
    "demo": [("paths", "demo --out {x}")],
    "verify": [("paths", "verify {x}"), ("results", "verify {x}")],
    "compact": [("paths", "compact {x}"), ("results", "compact {x}"), ("paths", "compact {result} --out {x}")],
    "events": [
        *((kind, "events {x}") for kind in ("paths", "results")),
        *((kind, "events {x} --csv") for kind in ("paths", "results")),
        ("paths", "events {result} --out {x}"),
        ("paths", "events {result} --min-confidence {x}"),
        ("texts", "events {result} --label {x}"),
        *(("numbers", f"events {{result}} {option}={{x}}") for option in QUESTION_NUMBERS["events"]),
    ],
    "search": [
        *((kind, "search {x} Biking") for kind in ("paths", "results")),
        ("texts", "search {result} {x}"),
        ("paths", "search {result} a --out {x}"),
        ("paths", "search {x} --like {video}"),
        ("results", "search {x} --like {video}"),
        *(("numbers", f"search {{result}} a {option}={{x}}") for option in QUESTION_NUMBERS["search"]),
    ],
    "similar": [
        *((kind, "similar {x}") for kind in ("paths", "results")),
        *(("numbers", f"similar {{result}} {option}={{x}}") for option in QUESTION_NUMBERS["similar"]),
    ],
    "clusters": [
        *((kind, "clusters {x}") for kind in ("paths", "results")),
        *(("numbers", f"clusters {{result}} {option}={{x}}") for option in QUESTION_NUMBERS["clusters"]),
    ],
    "uncertain": [
        *((kind, "uncertain {x}") for kind in ("paths", "results")),
        ("paths", "uncertain {result} --out {x}"),
        *(("numbers", f"uncertain {{result}} {option}={{x}}") for option in QUESTION_NUMBERS["uncertain"]),
    ],
    "cut": [
        *((kind, "cut {x} --label a --out {out}") for kind in ("paths", "results")),
        ("paths", "cut {result} --label a --out {x}"),
        ("paths", "cut {result} --moments {x} --out {out}"),
        ("texts", "cut {result} --label {x} --out {out}"),
        *(("numbers", f"cut {{result}} --label a --out {{out}} {option}={{x}}") for option in QUESTION_NUMBERS["cut"]),
    ],
    "export": [
        *((kind, "export {x} --format csv") for kind in ("paths", "results")),
        ("paths", "export {result} --format csv --out {x}"),
        ("paths", "export {result} --format srt --out {x}"),
        ("paths", "export {result} --format chapters --write-into --out {x}"),
        ("texts", "export {result} --format csv --label {x}"),
        ("texts", "export {result} --format {x}"),
        ("numbers", "export {result} --format labelstudio --frame-rate={x}"),
        *(
            ("numbers", f"export {{result}} --format csv --events {option}={{x}}")
            for option in QUESTION_NUMBERS["export"]
        ),
    ],
    "import": [
        ("paths", "import {x}"),
        ("paths", "import {marks} --out {x}"),
        *((kind, "import {marks} --tags {x}") for kind in ("paths", "results")),
        ("numbers", "import {marks} --frame-rate={x}"),
    ],
    "report": [
        *((kind, "report {x} --out {page} --thumbnails 0") for kind in ("paths", "results")),
        ("paths", "report {result} --out {x} --thumbnails 0"),
        ("texts", "report {result} --out {page} --thumbnails 0 --base-url {x}"),
        ("numbers", "report {result} --out {page} --thumbnails={x}"),
        ("paths", "report {result} --out {page} --thumbnails 0 --marks {x}"),
    ],
    "view": [
        *((kind, "view {x}") for kind in ("paths", "results")),
        ("paths", "view {result} --marks {x}"),
        ("numbers", "view {result} --port={x}"),
    ],
    "teach": [
        *((kind, "teach {x} {marks} --out {model_out}") for kind in ("paths", "results")),
        ("paths", "teach {embedded} {x} --model {taught} --out {model_out}"),
        ("paths", "teach {embedded} {marks} --model {x} --out {model_out}"),
        ("paths", "teach {embedded} {marks} --model {taught} --out {x}"),
        ("numbers", "teach {result} {marks} --out {model_out} --frame-rate={x}"),
    ],
    "relabel": [
        *((kind, "relabel {x} --model {model} --overwrite") for kind in ("paths", "results")),
        ("results", "relabel {x} --model {model} --out {out}"),
        ("paths", "relabel {labelled} --model {x} --overwrite"),
        ("paths", "relabel {labelled} --model {mine} --out {x}"),
        ("numbers", "relabel {labelled} --model {mine} --out {out} --top-k={x}"),
    ],
    "probe": [("paths", "probe {x}"), ("list files", "probe @{x}"), ("paths", "probe {video} --model {x}")],
    "models": [("paths", "models {x}")],
    "train": [
        ("paths", "train {x} --dry-run"),
        ("paths", TRAIN + " --out {x}"),
        ("paths", "train {clips} --dry-run --split {x}"),
        ("paths", "train {clips} --model i3d-lite-lstm --out {model_out} -q --weights {x}"),
        ("paths", "train {clips} --model i3d-lstm --out {model_out} -q --weights {x}"),
        ("paths", "train {clips} --dry-run --background {x}"),
        ("paths", TRAIN + " --out {model_out} --run-folder {x}"),
        ("paths", TRAIN + " --out {model_out} --cache {x}"),
        ("run folders", TRAIN + " --out {model_out} --run-folder {x}"),
        ("texts", "train {clips} --dry-run --leave-out {x}"),
        ("numbers", "train {clips} --dry-run --test-groups={x}"),
        ("numbers", "train {clips} --dry-run --test-groups=0-{x}"),
        *(("numbers", f"{TRAIN} --out {{model_out}} {option}={{x}}") for option in TRAIN_NUMBERS),
    ],
    "evaluate": [
        ("paths", "evaluate {x} {clips} --split all"),
        ("paths", "evaluate actions38 {x} --split all"),
        ("paths", "evaluate actions38 {clips} --split all --out {x}"),
        ("list files", "evaluate actions38 {clips} --split all --json {x}"),
        ("paths", "evaluate actions38 {clips} --split all --cache {x}"),
        ("numbers", "evaluate actions38 {clips} --split all --cache-size={x}"),
    ],
    "compare": [
        ("paths", "compare {x} actions38 {clips} --split all"),
        ("paths", "compare actions38 {model} {x} --split all"),
        ("paths", "compare actions38 {model} {clips} --split all --out {x}"),
        ("paths", "compare actions38 {model} {clips} --split all --cache {x}"),
    ],
    "bench": [
        ("paths", "bench {x}"),
        ("paths", "bench {video} --model {x}"),
        ("numbers", "bench {video} --seconds={x}"),
        ("numbers", "bench {video} --rounds={x}"),
    ],
}
"""The command lines of each command, and the kind of the things that they are tried with."""

ACCEPTED = (
    "none of the clips could be read",
    "none of the videos can be opened and has a known length",
    "cnn3d-lstm starts from scratch",
    "has no ood_score",
    "has no embeddings",
    "no video of --only is in the inputs",
)
"""Messages about the other arguments, for odd things that are allowed."""

MAX_SHOWN = 200
"""Characters of a thing that a message must show."""

ASKS_NETWORK = {("run {x}* --out {out}", "no bucket")}


def test_every_command_is_tried() -> None:
    assert set(LINES) == set(COMMANDS)


class DriverWithoutRay:
    """Replaces the Ray driver: decodes the videos in this process. They have no windows."""

    def __init__(self, *_: object, **__: object):
        pass

    def __enter__(self) -> "DriverWithoutRay":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        """Starts nothing."""

    def close(self) -> None:
        """Ends nothing."""

    def events(self, work: object, videos: Sequence[Video], numbers: Sequence[int], *others: Any, **_: object) -> Any:
        """Yields the rows of ``videos``."""
        batch = video_table(videos, numbers)
        source, sampling = others[:2]
        for table in decode(batch, sampling=sampling, preprocessing=source.info.preprocessing, span_windows=16):
            yield segments_table(table, [], 0.1, 0.1)


class Decoder:
    """Replaces a decoder process."""

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def probe(self, path: str) -> NoReturn:
        """Reads no video."""
        raise VideoError("not_video", f"{path} is no video")


def prepare_training(plan: TrainingPlan, config: TrainConfig, *_: object, **__: object) -> None:
    """Does all that a training does before its first epoch."""
    assert plan.split is not None and config.run_folder is not None
    with RunFolder(config.run_folder).held():
        if config.weights is not None:
            starting_network(config, plan.data.labels)
        with open_run(plan.data, plan.split, config), open_cache(config):
            pass


def end_watch(*_: object) -> NoReturn:
    """Ends ``vtag watch`` after the first look at its folder."""
    raise click.exceptions.Exit(0)


def find_tagger(model: str, **_: object) -> SimpleNamespace:
    """Finds a model without loading it."""
    source = find_model(model)
    classifier = SimpleNamespace(device=SimpleNamespace(type="cpu"))
    return SimpleNamespace(
        source=source, labels=source.info.labels, sampling=source.info.sampling, classifier=classifier
    )


@pytest.fixture(autouse=True)
def without_heavy_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leaves out Ray, models and decoders, and makes an empty folder the current one."""
    for owner, name, replacement in (
        (jobs.cluster.ray_driver, "RayDriver", DriverWithoutRay),
        (jobs.tagging.run, "RayDriver", DriverWithoutRay),
        (jobs.watching.job_runner, "RayDriver", DriverWithoutRay),
        (jobs.watching.folder.SystemClock, "sleep", end_watch),
        (jobs.tagging.run, "RETRY_WAITS_S", (0.0, 0.0)),
        (jobs.result.lock, "HEARTBEAT_S", 0.01),
        (jobs.result.lock, "SETTLE_S", 0.01),
        (jobs.cli.demo, "demo_clips", lambda: [tmp_path / "video.mp4"]),
        (jobs.measure.bench, "DecoderProcess", Decoder),
        (jobs.tagging.dry_run, "decoder_of_this_thread", Decoder),
        (training.data.inventory, "decoder_of_this_thread", Decoder),
        (jobs.cli.command.train_with_progress, "train_model", prepare_training),
        (tagger, "load_model", find_tagger),
        (tagger.tagger, "Tagger", lambda source, *_: SimpleNamespace(source=source, labels=source.info.labels)),
        (jobs.watching.watch_job, "watch_source", lambda *_, **__: (segment for segment in ())),
        (training.evaluation.evaluate, "decode_clips", lambda *_: iter(())),
        (training.evaluation.evaluate, "clip_arrays", lambda *_: iter(())),
        (training.evaluation.cost, "measure_costs", lambda taggers: []),
        (jobs.browse.report.thumbnails, "run_on_ray", lambda *_, **__: []),
        (jobs.browse.view.server.ViewServer, "serve_forever", lambda server: None),
    ):
        monkeypatch.setattr(owner, name, replacement)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    # Nothing is written to a home folder, and nothing is downloaded.
    monkeypatch.setenv("VTAG_CACHE", str(tmp_path / "cache"))


def make_things(kind: str, folder: Path, model: ModelSource) -> Mapping[str, str]:
    """Returns the odd things of a kind, by what is odd about them. Those that are files are made in ``folder``.

    Results are those of ``model`` and its sampling.
    """
    match kind:
        case "paths":
            return odd_things.make_paths(folder)
        case "list files":
            # A list may come from a pipe, as @<(find ...) does, and --json may go to one.
            return {name: path for name, path in odd_things.make_paths(folder).items() if name != "FIFO"}
        case "lists":
            named = {"another machine": "file://other-machine/a.mp4", "unknown scheme": "nosuch://a/b.mp4"}
            return dict.fromkeys(odd_things.LISTS, "standard input") | named
        case "results":
            identity = RunIdentity(model.name, model.hash, model.info.sampling.to_json(), 5)
            return odd_things.make_results(folder, identity)
        case "run folders":
            return odd_things.make_run_folders(folder)
    return {text: text for text in (odd_things.NUMBERS if kind == "numbers" else odd_things.TEXTS)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A result with embeddings, and its model."""
    return make_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSource, ModelSource]:
    """Two models of embeddings, ``old`` and ``mine``."""
    folder = tmp_path_factory.mktemp("models")
    return write_model(folder / "ab.safetensors", "ab"), write_model(folder / "abc.safetensors", "abc")


@pytest.fixture
def good(
    tmp_path: Path, archive: Archive, models: tuple[ModelSource, ModelSource], request: pytest.FixtureRequest
) -> dict[str, str]:
    """The other arguments. Those that take long to make are made for a line that has them."""
    line, (old, mine) = request.node.callspec.params["line"], models
    (tmp_path / "video.mp4").write_text("text")
    for label in ("Basketball", "Biking"):
        for group in "123":
            clip = tmp_path / "clips" / label / group / "clip.mp4"
            clip.parent.mkdir(parents=True)
            clip.write_text(label + group)
    (tmp_path / "marks.csv").write_text("video,start_s,end_s,label\n/v/0.mp4,0,4,Swing\n")
    videos = [finished.make_finished("/v/a.mp4")]
    if "{result}" in line:
        finished.publish_to(tmp_path / "result", videos)
    if "{labelled}" in line:
        finished.publish_to(tmp_path / "labelled.parquet", videos, identity=identity_of(old))
    return {
        "video": str(tmp_path / "video.mp4"),
        "clips": str(tmp_path / "clips"),
        "result": str(tmp_path / "result"),
        "model": str(builtin_model_path()),
        "embedded": str(archive.tags),
        "taught": str(archive.model),
        "marks": str(tmp_path / "marks.csv"),
        "labelled": str(tmp_path / "labelled.parquet"),
        "mine": str(mine.file),
    }


def is_like_a_class(name: str) -> bool:
    """Tells whether a name has capitals inside, as no English word has."""
    return sum(map(str.isupper, name)) > 1


@lru_cache(maxsize=1)
def names_of_exceptions(modules: int) -> set[str]:
    """Returns the names of all exceptions that are loaded, with so many modules, and that are no English words."""
    classes, found = [BaseException], set()
    while classes:
        found.update(new := set(classes.pop().__subclasses__()).difference(found))
        classes += new
    return {error.__name__ for error in found if is_like_a_class(error.__name__)}


def problems(arguments: Sequence[str], thing: str, content: bytes | None = None) -> list[str]:
    """Runs a command and returns what is wrong with its end."""
    done = CliRunner().invoke(main, arguments, input=content, prog_name="vtag")
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    found = []
    if done.exit_code not in (0, 1, 2, 3):
        found.append(f"exit status {done.exit_code}")
    words = {word for word in re.findall(r"\w+", done.output) if is_like_a_class(word)}
    if words and (named := words & names_of_exceptions(len(sys.modules))):
        found.append(f"names {', '.join(named)}")
    for text in ("Traceback", "unexpected error", "[Errno", "[errno"):
        if text in done.output:
            found.append(f"says {text}")
    if done.exit_code == 1:
        # The lines before are progress.
        if not all(line.startswith("vtag: ") for line in lines):
            found.append("more than a line")
        shown = [printable(" ".join(text.split())) for text in (thing, str(Path(thing)))] + [repr(thing)[1:-1]]
        if not any(text[:MAX_SHOWN] in last for text in (*shown, *ACCEPTED)):
            found.append("does not name it")
    elif done.exit_code == 2 and not last.startswith("Error: "):
        found.append("more than a line")
    return [f"{' '.join(arguments)[:300]!r}: {', '.join(found)}: {last[:300]!r}"] if found else []


CASES = [(kind, line) for lines in LINES.values() for kind, line in lines]


@pytest.mark.parametrize(("kind", "line"), CASES, ids=[f"{line}-{kind}" for kind, line in CASES])
def test_an_odd_thing_ends_in_a_clear_line(
    kind: str, line: str, good: Mapping[str, str], models: tuple[ModelSource, ModelSource], tmp_path: Path
) -> None:
    found = []
    for number, (name, thing) in enumerate(make_things(kind, tmp_path / "odd", models[1]).items()):
        endings = {"out": "parquet", "model_out": "safetensors", "page": "html"}
        outs = {name: f"{tmp_path}/out{number}.{ending}" for name, ending in endings.items()}
        # Split first: a thing may have spaces.
        arguments = [word.format(x=thing, **good, **outs) for word in line.split()]
        if (line, name) not in ASKS_NETWORK:
            content = odd_things.LISTS[name] if kind == "lists" else None
            found += [f"{name}: {problem}" for problem in problems(arguments, thing, content)]
    assert not found, "\n".join(found)


CLOSED = [
    *("run {x} --out {out} --model {model} --dry-run", "run @{x} --out {out} --model {model} --dry-run"),
    "run {video} --out {x}/t --dry-run",
    *("run {video} --out {out} --dry-run --model {x}", "verify {x}", "compact {x}", "models {x}"),
    *("train {x} --dry-run", "evaluate {x} {clips} --split all"),
    "evaluate actions38 {clips} --split all --out {x}/report",
]


@pytest.mark.parametrize("line", CLOSED)
def test_a_file_or_folder_without_permission_ends_in_a_clear_line(line: str, good: Mapping[str, str]) -> None:
    # The folder of tmp_path is closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "video.mp4").write_text("text")
        clip = root / "clips/Biking/1/clip.mp4"
        clip.parent.mkdir(parents=True)
        clip.write_text("text")
        (root / "closed.mp4").write_text("text")
        (root / "closed").mkdir()
        for path in (root / "closed.mp4", root / "closed"):
            path.chmod(0)
        # vtag itself may lie where other users may not read.
        model = shutil.copy(builtin_model_path(), root / "model.safetensors")
        others = {"video": root / "video.mp4", "clips": root / "clips", "out": root / "t.parquet", "model": model}
        found = []
        try:
            # Once with all rights, so that all modules are imported.
            problems([word.format(x=root / "video.mp4", **others) for word in line.split()], "")
            with without_rights():
                for thing in (root / "closed.mp4", root / "closed"):
                    arguments = [word.format(x=thing, **others) for word in line.split()]
                    found += problems(arguments, str(thing))
        finally:
            (root / "closed").chmod(0o700)
    assert not found, "\n".join(found)


REMOVED = [
    *("run a.mp4 --out t.parquet", "run {video} --out t.parquet", "verify t", "compact t", "probe a.mp4"),
    *("models m.safetensors", "train clips --dry-run", "evaluate actions38 clips"),
    *("compare actions38 m.safetensors clips", "bench a.mp4", "demo --out d"),
]


@pytest.mark.parametrize("line", REMOVED)
def test_a_removed_current_folder_ends_in_a_clear_line(line: str, good: Mapping[str, str]) -> None:
    Path.cwd().rmdir()
    arguments = [word.format(**good) for word in line.split()]
    assert not problems(arguments, "")
