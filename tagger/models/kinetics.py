"""``i3d-kinetics400`` and ``x3d-m-kinetics400``: networks of pytorchvideo with their own Kinetics-400 weights."""

from importlib.resources import files

from tagger.models.known_model import KnownModel, Weights
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling

KINETICS = "i3d-kinetics400"

KINETICS_PREPROCESSING = Preprocessing(size=224, resize=256, mean=(0.45,) * 3, std=(0.225,) * 3)

MODEL_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
MODEL_ZOO_PAGE = "https://github.com/facebookresearch/pytorchvideo/blob/main/docs/source/model_zoo.md"

SOURCE = f"model zoo of pytorchvideo, trained on Kinetics-400 alone: {MODEL_ZOO_PAGE}"
LICENCE = "not stated for the weights; the software pytorchvideo is Apache-2.0"
PROTOCOL = "top 1 and top 5 on the validation set of Kinetics-400, 3 crops of 256×256 × 10 clips of each video averaged"
CHECK = "neither size nor check sum is published; the names and shapes of all tensors are checked"


def kinetics400_labels() -> tuple[str, ...]:
    """Returns the 400 class names of Kinetics-400 in the order of the model's outputs."""
    return tuple((files("tagger.models") / "kinetics400_labels.txt").read_text("utf-8").splitlines())


I3D_WEIGHTS = Weights(
    source=SOURCE,
    licence=LICENCE,
    protocol=PROTOCOL,
    scores={"top1": 0.7327, "top5": 0.9070},
    url=f"{MODEL_ZOO}/I3D_8x8_R50.pyth",
    check=CHECK,
)

I3D_KINETICS = KnownModel(
    name=KINETICS,
    summary="I3D ResNet-50 of pytorchvideo with its 400-class Kinetics head",
    preprocessing=KINETICS_PREPROCESSING,
    gflop=57,
    # The weights were trained on 8×8 clips: every other frame of a window of 16×4. All 16 are twice the work.
    samplings=(Sampling(num_frames=8, sampling_rate=8), Sampling(num_frames=16, sampling_rate=4)),
    labels=kinetics400_labels(),
    weights=I3D_WEIGHTS,
    is_trainable=False,
    training={"data": "Kinetics-400", "clips": "8×8", "by": "pytorchvideo"},
)

X3D_M_KINETICS = KnownModel(
    name="x3d-m-kinetics400",
    summary="X3D-M of pytorchvideo with its 400-class Kinetics head: better and faster than the I3D",
    # As PySlowFast's configuration of these weights (configs/Kinetics/pytorchvideo/X3D_M.yaml) prescribes for a single
    # crop, and as they were trained. With three crops it takes 256×256, as the example on PyTorch Hub does.
    preprocessing=KINETICS_PREPROCESSING,
    gflop=9.5,
    samplings=(Sampling(num_frames=16, sampling_rate=5),),
    labels=kinetics400_labels(),
    weights=Weights(
        source=SOURCE,
        licence=LICENCE,
        protocol=PROTOCOL,
        scores={"top1": 0.7594, "top5": 0.9272},
        url=f"{MODEL_ZOO}/X3D_M.pyth",
        check=CHECK,
    ),
    is_trainable=False,
    training={"data": "Kinetics-400", "clips": "16×5", "by": "pytorchvideo"},
)
