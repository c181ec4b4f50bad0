"""The project uses no private name of a dependency, except in the one folder where each use has a fall-back."""

import pytest

from tests.private_names import ALLOWED_FOLDER, ROOT, defined_names, private_uses, sources


def test_no_private_name_of_a_dependency_is_used() -> None:
    files = sources()
    assert len(files) > 200
    defined = defined_names(files)
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files
        if ALLOWED_FOLDER not in path.parents
        for line, name in private_uses(path.read_text("utf-8"), defined)
    ]
    assert found == [], "use what the library documents, or do without"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import ray._private.node", "ray._private.node"),
        ("from ray._private import services", "ray._private.services"),
        ("from ray.data import _internal", "ray.data._internal"),
        ("import torch\ntorch._addmm_activation(a, b, c)", "torch._addmm_activation"),
        ("import torch as t\nt.ops.mkldnn._convolution()", "t.ops.mkldnn._convolution"),
        ("from torch import nn\nnn._reduction", "nn._reduction"),
        ("def work(dataset):\n    return dataset._logical_plan.dag", "dataset._logical_plan"),
    ],
)
def test_a_private_name_is_found(source: str, name: str) -> None:
    assert [found for _, found in private_uses(source, {"_own"})] == [name]


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos._exit(1)",
        "from jobs import _own",
        "class A:\n    def f(self):\n        return self._own",
        "import numpy\nnumpy.__version__",
        "point._replace(x=1)",
        "import torch\ntorch.nn.functional.conv2d",
    ],
)
def test_other_names_are_not_reported(source: str) -> None:
    assert list(private_uses(source, {"_own"})) == []
