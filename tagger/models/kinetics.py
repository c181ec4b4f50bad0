"""``i3d-kinetics400``: its name, its labels and the metadata that a model file would have."""

from importlib.resources import files

from tagger.model_file import ModelInfo
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling

KINETICS = "i3d-kinetics400"

KINETICS_PREPROCESSING = Preprocessing(size=224, resize=256, mean=(0.45,) * 3, std=(0.225,) * 3)


def kinetics400_labels() -> tuple[str, ...]:
    """Returns the 400 class names of Kinetics-400 in the order of the model's outputs."""
    return tuple((files("tagger.models") / "kinetics400_labels.txt").read_text("utf-8").splitlines())


def kinetics_info() -> ModelInfo:
    """Returns the metadata of ``i3d-kinetics400``, whose weights are a pytorchvideo checkpoint without metadata."""
    return ModelInfo(
        architecture=KINETICS,
        labels=kinetics400_labels(),
        # The weights were trained on 8×8 clips, which also last 2.13 s. vtag samples twice as many frames.
        sampling=Sampling(num_frames=16, sampling_rate=4, target_fps=30.0),
        preprocessing=KINETICS_PREPROCESSING,
        training={"data": "Kinetics-400", "clips": "8×8", "by": "pytorchvideo"},
        scores={
            "top1": 0.7327,
            "top5": 0.9070,
            "measured_on": "Kinetics-400 validation set, 8×8 clips, 3 crops × 10 clips of each video",
            "source": "https://github.com/facebookresearch/pytorchvideo/blob/main/docs/source/model_zoo.md",
        },
    )
