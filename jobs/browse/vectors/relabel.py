"""Labels all segments of a result anew with another model, from their embeddings. No video is opened."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.browse.segments import FinishedResult, no_segments, open_result, readable
from jobs.browse.vectors.reading import Beside, misfit, vector_size
from jobs.result.identity import RunIdentity
from jobs.result.ledger import read_started_run
from jobs.result.merge import ROW_GROUP_ROWS, TableFiles
from jobs.result.output import Output, choose_output, find_output
from jobs.result.published import complete, is_complete
from jobs.result.rewrite.exclusive import rewriting
from jobs.result.rewrite.new_tags import rewrite_tags
from jobs.storage.location import Location
from jobs.tagging.run_config import RunConfig
from tagger.errors import InputError, OutputError
from tagger.models.embeddings.answers import EmbeddingAnswers, no_answers
from tagger.models.registry import KNOWN_MODELS
from tagger.schema import TAGS_SCHEMA
from tagger.tagger import ModelSource, find_model
from tagger.windows import Sampling

BATCH_ROWS = 4 * ROW_GROUP_ROWS
"""Number of rows that are written at a time."""

ANSWERED_ROWS = 1000
"""Number of embeddings that are classified at a time: 1.5 MB of 384 float32, which the cache of a core holds."""

ROUNDING = 1e-4
"""Largest difference of the sum of all confidences of a segment from 1."""

KEPT_COLUMNS = ("video", "segment", "start_s", "end_s")
"""Columns of the tags that do not depend on the model."""


@dataclass
class Relabelled:
    """What was done at ``out``. ``changed`` segments of all ``segments`` have another label than before.

    ``before`` and ``after`` are the numbers of segments by label.
    """

    out: str
    model: str
    model_hash: str
    videos: int = 0
    segments: int = 0
    changed: int = 0
    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)


def find_answering_model(name: str) -> ModelSource:
    """Finds the model ``name`` as ``find_model``, but refuses one that would be downloaded before it is refused."""
    known = KNOWN_MODELS.get(name)
    if known is not None and known.is_downloaded:
        raise no_answers(name)
    return find_model(name)


def relabel(path: str, model: ModelSource, out: str | None = None, *, top_k: int | None = None) -> Relabelled | None:
    """Labels all segments of the result at ``path`` with ``model``, in place or as another result at ``out``.

    ``top_k`` is the number of labels to keep for each segment, by default as many as a run that extends the result.
    Returns None when the result already is what it would become in place.

    Raises OutputError when the result cannot be labelled, read or written, InputError when its embeddings are not those
    of the model, and ModelFileError when the model cannot answer from embeddings.
    """
    source = find_output(path)
    finished = open_result(path)
    identity = _identity(finished, model, top_k)
    if finished.result.identity.difference(identity) is None:
        if out is not None:
            raise OutputError(
                f"{path} already has the labels of {model.name}; use it as it is, or give another --model"
            )
        _complete(source, finished)
        return None
    answers = model.load_answers()
    _check_embeddings(finished, model)
    target = source if out is None else _choose(source, out)
    with rewriting(source, target) as check_locks:
        # What was read before may be of an earlier run.
        finished = open_result(path)
        identity = _identity(finished, model, top_k)
        _check_embeddings(finished, model)
        done = Relabelled(str(out or path), model.name, model.hash)
        beside = Beside(finished, answerer(answers, identity.top_k))
        labels = pa.array(answers.info.labels, pa.string())

        def new_tags(files: TableFiles) -> Iterator[pa.Table]:
            _add_videos(files, done)
            for batch in _batches(files.tags):
                found = beside.take(batch.num_rows)
                yield _count(batch, tags_of(batch, found, labels, has_ood=answers.info.ood is not None), done)

        rewrite_tags(finished.result, source, target, identity, new_tags, check_locks)
    return done


def _identity(finished: FinishedResult, model: ModelSource, top_k: int | None) -> RunIdentity:
    """Returns the identity of the result with other labels. Raises OutputError when it cannot get any."""
    vector_size(finished)
    before = finished.result.identity
    if not _count_rows(finished):
        raise no_segments(finished)
    top_k = min(_wanted_top_k(finished) if top_k is None else top_k, len(model.info.labels))
    return replace(before, model=model.name, model_hash=model.hash, top_k=top_k)


def _wanted_top_k(finished: FinishedResult) -> int:
    """Returns the number of labels that the runs of the result were to keep for each segment.

    A run with a model of few labels keeps them all, which may be fewer than it was to keep. Then all segments have the
    same labels, and their confidences add up to 1.
    """
    kept = finished.result.identity.top_k
    if kept >= RunConfig.top_k:
        return kept
    for source in finished.result.sources:
        with readable(source.tags), source.tags.parquet() as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=["top_labels", "top_confidences"]):
                if batch.num_rows:
                    labels, confidences = (batch[name].flatten() for name in ("top_labels", "top_confidences"))
                    has_all = abs(pc.sum(confidences).as_py() / batch.num_rows - 1) < ROUNDING
                    return RunConfig.top_k if has_all and len(pc.unique(labels)) <= kept else kept
    return kept


def _count_rows(finished: FinishedResult) -> int:
    """Returns the number of segments. Raises OutputError unless all files of tags have as many rows as the embeddings.

    So a result that lacks a file is refused before anything is written.
    """
    rows = 0
    for source in finished.result.sources:
        assert source.embeddings is not None
        tags, embeddings = map(_rows, (source.tags, source.embeddings))
        if tags != embeddings:
            raise misfit(finished.path)
        rows += tags
    return rows


def _rows(table: Location) -> int:
    with readable(table), table.parquet() as file:
        return file.metadata.num_rows


def _check_embeddings(finished: FinishedResult, model: ModelSource) -> None:
    """Raises InputError unless ``vtag run`` with ``model`` can make the embeddings of the result.

    The distance of windows and fast decoding are chosen for a run, whatever the model.
    """
    before = finished.result.identity
    stored, wanted = before.embeddings or {}, model.embeddings
    sampling, own = Sampling(**before.sampling), model.info.sampling
    chosen = replace(own, hop_s=sampling.hop_s, fast_decode=own.fast_decode or sampling.fast_decode)
    if stored.get("version") != wanted["version"]:
        difference = "of another version of vtag"
    elif sampling != chosen:
        difference = f"of another sampling ({sampling}; {model.name} has {own})"
    elif stored.get("preprocessing") != wanted["preprocessing"]:
        difference = "of frames that were prepared in another way"
    elif stored != wanted:
        difference = "of another backbone, or fitted to another training"
    else:
        return
    raise InputError(
        f"{model.name} cannot label {finished.path}, whose embeddings are {difference}; take a model that was made "
        f"from {before.model}, or tag the videos again with vtag run --model and --embeddings --overwrite"
    )


def _choose(source: Output, out: str) -> Output:
    target = choose_output(out, embeddings=True)
    if target.is_folder != source.is_folder:
        kinds = ("folder, and --out {} one file", "file, and --out {} a folder")
        one, instead = kinds[target.is_folder], "FILE.parquet" if target.is_folder else "another name"
        raise OutputError(f"{source.out} is a {one.format(out)}; give --out {instead}")
    return target


def _complete(output: Output, finished: FinishedResult) -> None:
    """Finishes a relabelling that was killed at its end: names of part files, a hidden file, and its run folder."""
    is_clean = is_complete(output, finished.result) and not output.run_folder.is_folder()
    if not is_clean and read_started_run(output.run_folder) is None:
        with rewriting(output, output):
            complete(output)
            (output.manifest if output.is_folder else output.tags).hidden().delete()


def _add_videos(files: TableFiles, done: Relabelled) -> None:
    done.videos += _rows(files.videos)


def _batches(tags: Location) -> Iterator[pa.RecordBatch]:
    with readable(tags), tags.parquet() as file:
        yield from file.iter_batches(BATCH_ROWS, columns=[*KEPT_COLUMNS, "label"])


def answerer(answers: EmbeddingAnswers, top_k: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that classifies embeddings ``[n, D] float16``.

    It returns an array ``[n]`` with the fields ``label`` ``[top_k] int32`` (numbers of labels, best first),
    ``confidence`` ``[top_k] float32`` and ``ood_score`` float32.
    """
    kind = np.dtype([("label", np.int32, (top_k,)), ("confidence", np.float32, (top_k,)), ("ood_score", np.float32)])

    def answer(vectors: np.ndarray) -> np.ndarray:
        found = np.zeros(len(vectors), kind)
        for begin in range(0, len(vectors), ANSWERED_ROWS):
            rows = slice(begin, begin + ANSWERED_ROWS)
            probabilities, ood_scores = answers.classify(vectors[rows])
            found["label"][rows], found["confidence"][rows] = best_labels(probabilities, top_k)
            if ood_scores is not None:
                found["ood_score"][rows] = ood_scores
        return found

    return answer


def best_labels(probabilities: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ``top_k`` best labels of ``[n, classes] float32`` probabilities, best first, as ``make_segments``.

    They are numbers ``[n, top_k]`` and their confidences ``[n, top_k] float32``. Equal confidences keep the order of
    the labels.
    """
    classes = probabilities.shape[1]
    # The bits of positive floats are ordered as their values. Below them, the earlier of two labels is the larger.
    keys = np.ascontiguousarray(probabilities, np.float32).view(np.uint32).astype(np.uint64) << 32
    keys |= np.arange(classes - 1, -1, -1, dtype=np.uint64)
    if top_k < classes:
        keys = np.partition(keys, classes - top_k, axis=1)[:, classes - top_k :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    labels = classes - 1 - (keys & np.uint64(0xFFFFFFFF)).astype(np.int32)
    return labels, (keys >> 32).astype(np.uint32).view(np.float32)


def tags_of(batch: pa.RecordBatch, found: np.ndarray, labels: pa.Array, *, has_ood: bool) -> pa.Table:
    """Returns rows of TAGS_SCHEMA: the kept columns of ``batch``, and what ``answerer`` ``found`` for its rows."""
    rows, top_k = found["label"].shape
    offsets = pa.array(np.arange(0, rows * top_k + 1, top_k, dtype=np.int32))
    flat = labels.take(pa.array(found["label"].ravel()))
    columns = {name: batch[name] for name in KEPT_COLUMNS} | {
        "label": flat.take(offsets[:-1]),
        "confidence": pa.array(found["confidence"][:, 0]),
        "ood_score": pa.array(found["ood_score"]) if has_ood else pa.nulls(rows, pa.float32()),
        "top_labels": pa.ListArray.from_arrays(offsets, flat),
        "top_confidences": pa.ListArray.from_arrays(offsets, pa.array(found["confidence"].ravel())),
    }
    return pa.table([columns[name] for name in TAGS_SCHEMA.names], schema=TAGS_SCHEMA)


def _count(before: pa.RecordBatch, tags: pa.Table, done: Relabelled) -> pa.Table:
    """Counts the labels of the same rows before and after. Returns ``tags``."""
    done.segments += tags.num_rows
    done.changed += pc.sum(pc.not_equal(before["label"], tags["label"].combine_chunks())).as_py() or 0
    for counts, labels in ((done.before, before["label"]), (done.after, tags["label"])):
        for row in pc.value_counts(labels).to_pylist():
            counts[row["values"]] += row["counts"]
    return tags


def frequent(done: Relabelled, count: int | None = None) -> Sequence[str]:
    """Returns the labels, the most frequent before or after first; the first ``count`` of them if it is given."""
    labels = done.before.keys() | done.after.keys()
    return sorted(labels, key=lambda label: (-max(done.before[label], done.after[label]), label))[:count]
