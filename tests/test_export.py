"""A test of the whole package: what torch.export and ONNX make of it gives the features of the module that stayed."""

import re
from pathlib import Path

import pytest
import torch
from torch.export import Dim

from atmoloss import AtmoDistLoss
from tests.tolerances import assert_close

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def extractor(every_extractor):
    """Every test of this file runs over all weights that ship."""
    return every_extractor


@pytest.fixture(scope="module")
def draw(extractor, draw_for):
    return lambda *size, **options: draw_for(extractor, *size, **options)


def assert_exports(extractor, sizes, shapes, draw, tmp_path) -> None:
    program = torch.export.export(extractor, (draw(2, 32, 48),), dynamic_shapes=(sizes,))
    torch.export.save(program, tmp_path / "extractor.pt2")
    module = torch.export.load(tmp_path / "extractor.pt2").module()
    for shape in shapes:
        fields = draw(*shape, seed=3)
        for stage, features in extractor(fields).items():
            assert_close(module(fields)[stage], features, torch.float32)


def test_torch_export_of_any_number_of_fields(extractor, draw, tmp_path) -> None:
    assert_exports(extractor, {0: Dim("n")}, ((2, 32, 48), (1, 32, 48), (7, 32, 48)), draw, tmp_path)


@pytest.mark.slow  # symbolic sizes take torch a minute of algebra; the test of ONNX has them, too
@pytest.mark.parametrize("periodic", [False, True])
def test_torch_export_of_any_size_of_fields(periodic, extractor, draw, tmp_path) -> None:
    sizes = {0: Dim("n"), 2: 16 * Dim("h"), 3: 16 * Dim("w")}
    assert_exports(extractor.with_periodic(periodic), sizes, ((1, 64, 32), (5, 32, 80)), draw, tmp_path)


def test_torch_export_of_the_loss(extractor, draw) -> None:
    loss = AtmoDistLoss(extractor)
    a, b = draw(seed=1), draw(seed=2)
    module = torch.export.export(loss, (a, b)).module()
    x, y = draw(seed=3), draw(seed=4)
    assert_close(module(x, y), loss(x, y), torch.float32)


def test_onnx_as_the_documentation_says(every_weights, draw, tmp_path, monkeypatch) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "speed.md").read_text(encoding="utf-8"), re.S)
    names: dict = {}
    assert '"default"' in code
    exec(code.replace('"default"', repr(every_weights)), names)
    assert [path.name for path in tmp_path.iterdir()] == ["extractor.onnx"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession("extractor.onnx", options, providers=["CPUExecutionProvider"])
    extractor = names["extractor"]
    assert [output.name for output in session.get_outputs()] == list(extractor.stages)
    for shape in ((2, 64, 96), (1, 128, 64), (3, 32, 32)):
        fields = draw(*shape, seed=3)
        for got, features in zip(
            session.run(None, {"fields": fields.numpy()}), extractor(fields).values(), strict=True
        ):
            assert_close(got, features, 1e-4)
