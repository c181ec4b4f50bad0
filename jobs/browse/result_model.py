"""The model that made a result."""

from jobs.browse.segments import FinishedResult
from tagger.errors import ModelFileError
from tagger.models.registry import BUILTIN, KNOWN_MODELS
from tagger.tagger import ModelSource, find_model

HASH_SHOWN = 12
"""Characters of a model's hash in messages."""


def is_named(model: str) -> bool:
    """Checks whether the recorded name of a model is enough to find it, because it is no file."""
    return model == BUILTIN or (model in KNOWN_MODELS and KNOWN_MODELS[model].is_downloaded)


def find_result_model(finished: FinishedResult, model: str | None = None) -> ModelSource:
    """Returns the model that made the result. ``model`` is its name or file; by default the name that is recorded.

    Raises ModelFileError when it is another model.
    """
    identity = finished.result.identity
    made_by = f"{finished.path} was made with the model {identity.model} ({identity.model_hash[:HASH_SHOWN]})"
    if model is None and not is_named(identity.model):
        raise ModelFileError(f"{made_by}; give its file with --model FILE")
    source = find_model(identity.model if model is None else model)
    if source.hash != identity.model_hash:
        named = f"--model {model}" if model is not None else f"the {identity.model} of this version of vtag"
        raise ModelFileError(
            f"{named} is another model ({source.hash[:HASH_SHOWN]}): {made_by}; give that model with --model FILE"
        )
    if source.embeddings != identity.embeddings:
        raise ModelFileError(
            f"the embeddings of {finished.path} are of another version of vtag; give its command of vtag run again "
            "with --embeddings --overwrite"
        )
    return source
