"""Exported networks: outputs, any batch size, samples."""

import json
import pathlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.app.config import ExportConfig
from feller.app.workflows.export import export, metadata_path
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.models.export.export_formats import to_onnx, to_torch_export
from feller.models.export.exported_network import ExportedNetwork, export_metadata
from feller.models.families.path_process import BridgeProcess, PathProcess
from feller.models.model import Model
from feller.paths import Affine, DataPrediction
from feller.paths.schedules import Cosine
from feller.sampling.sampler_config import SamplerConfig
from tests.errors import refuses
from tests.models.export.untrained import as_run, shaken, untrained


def opened(place: pathlib.Path):
    if place.suffix == ".pt2":
        return torch.export.load(place).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def call(*tensors):
        found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})
        return tuple(map(torch.from_numpy, found))

    return call


def written(answer: ExportedNetwork, place: pathlib.Path):
    if place.suffix == ".onnx":
        pytest.importorskip("onnxscript")
    (to_onnx if place.suffix == ".onnx" else to_torch_export)(answer, place)
    return opened(place)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_guidance_as_an_input(pictures, tmp_path, ending):
    model, _ = pictures
    found = written(ExportedNetwork(model, None), tmp_path / f"a{ending}")
    draw = torch.Generator().manual_seed(1)
    for n in (1, 5):
        x, t = torch.randn(n, 1, 8, 8, generator=draw), torch.rand(n, generator=draw)
        label = torch.arange(n)
        w = torch.linspace(0, 2.5, n)
        given, nothing = {"label": label}, {"label": torch.full((n,), 10)}
        with torch.no_grad():
            plain, without = model.network(x, t, given), model.network(x, t, nothing)
        expected = without + w[:, None, None, None] * (plain - without)
        torch.testing.assert_close(found(x, t, label, w)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_exported_file_draws_the_samples_of_the_model(points, tmp_path, ending):
    model, recipe = points
    if ending == ".onnx":
        pytest.importorskip("onnxscript")
    run = as_run(tmp_path / "run", model, recipe, "example:moons")
    place, _ = export(
        run, ExportConfig(to="onnx" if ending == ".onnx" else "torch-export", out=str(tmp_path / f"a{ending}"))
    )
    assert metadata_path(place) == tmp_path / f"a{ending}.json"  # a name of its own for each form
    known = json.loads(metadata_path(place).read_text())
    assert known["time"] == {"source": 0.0, "data": 1.0}
    assert [one["name"] for one in known["inputs"]] == ["x", "t"]
    assert known["inputs"][0]["shape"] == ["batch", 2]

    velocity, n, steps = opened(place), 7, 12
    x_0 = model.spec.space.sample_base(n, Rng(3).stream("source"))
    x = known["source"]["factor"] * x_0
    for i in range(steps):
        (v,) = velocity(x, torch.full((n,), i / steps))
        x = x + v / steps
    values = x.double().numpy() * np.array(known["scaling"]["scale"]) + np.array(known["scaling"]["mean"])

    ours = model.sample_dataset(n, sampling=SamplerConfig("euler", steps), rng=Rng(3))
    np.testing.assert_allclose(values, ours.numpy(), rtol=1e-4, atol=1e-5)
    assert np.ptp(ours.numpy() - model.spec.modality.decode(x_0).numpy()) > 0.05  # they have moved


def test_data_prediction_is_exported_as_velocity(points, tmp_path):
    model, _ = points
    plain = model.spec
    path = Affine(Cosine(), DataPrediction())
    found = written(ExportedNetwork(shaken(replace(plain, family=PathProcess(path)))), tmp_path / "a.pt2")
    x, t = torch.randn(4, 2), torch.tensor([0.1, 0.4, 0.6, 0.9])
    with torch.no_grad():
        data = model.network(x, t, {})
    alpha, sigma = (torch.pi / 2 * t).sin()[:, None], (torch.pi / 2 * t).cos()[:, None]
    noise = (x - alpha * data) / sigma
    expected = torch.pi / 2 * (sigma * data - alpha * noise)
    torch.testing.assert_close(found(x, t)[0], expected, rtol=1e-3, atol=1e-4)


def test_metadata_of_images(pictures):
    model, _ = pictures
    record = export_metadata(model, ExportedNetwork(model))
    x = torch.linspace(-1.2, 1.2, 64).reshape(1, 1, 8, 8)
    levels = ((x + 1) / 2 * record["scaling"]["levels"]).round().clamp(0, record["scaling"]["levels"])
    assert torch.equal(levels.to(torch.uint8), model.spec.modality.decode(x))
    label = next(one for one in record["inputs"] if one["name"] == "label")
    assert label["classes"] == list(map(str, range(10)))
    assert label["not_given"] == 10


def test_tokens_are_exported_as_logits(tmp_path):
    model, _ = untrained("example:digits", "levels-mask")
    answer = ExportedNetwork(model)
    assert answer.output_kinds == {"answer": "logits"}
    found = written(answer, tmp_path / "a.pt2")
    x, t, label = torch.randint(0, 18, (3, 1, 8, 8)), torch.rand(3), torch.tensor([1, 2, 10])
    with torch.no_grad():
        expected = model.network(x, t, {"label": label})
    torch.testing.assert_close(found(x, t, label)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "recipe"),
    [
        ("example:digits", "image-label"),
        ("example:digits", "levels-metric"),
        ("example:volcano", "manifold"),
        ("example:torsions", "manifold"),
        ("example:shakespeare", "text"),
        ("example:shakespeare", "text-autoregressive"),
        ("example:adult", "table"),
        ("example:adult", "table-flow"),
        ("example:perovskites", "crystals"),
        ("example:molecules", "molecules"),
        ("example:backbones", "backbones"),
        ("example:proteins", "proteins"),
    ],
)
@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_every_modality(tmp_path, data, recipe, ending):
    model, _ = untrained(data, recipe)
    answer = ExportedNetwork(model)
    found = written(answer, tmp_path / f"a{ending}")
    for n in (1, 5):
        tensors = tuple(torch.cat([tensor, tensor.flip(0), tensor])[:n] for tensor in answer.inputs())
        for ours, theirs in zip(answer(*tensors), found(*tensors), strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("to", "argument"), [("onxn", "to"), ("onnx", "out")])
def test_invalid_formats(points, tmp_path, to, argument):
    model, recipe = points
    run = as_run(tmp_path / "run", model, recipe, "example:moons")
    with refuses(UsageError, argument=argument):
        export(run, ExportConfig(to=to, out=str(tmp_path / "a.txt")))


def test_guidance_needs_condition_dropout(points):
    with refuses(UsageError):
        ExportedNetwork(points[0], None)


def test_bridges_and_graphical_models_are_not_exported():
    from feller.models.families.sequence_models import GraphicalModel
    from feller.paths.brownian import BrownianBridge
    from feller.privacy.marginals.marginal_network import MarginalTables
    from feller.spaces.table_tokens import TableTokens

    model, _ = untrained("example:moons", "points")
    with refuses(UsageError):
        ExportedNetwork(Model.from_spec(replace(model.spec, family=BridgeProcess(BrownianBridge(1.0))), model.network))
    table, _ = untrained("example:adult", "table")
    rows = table.spec.space
    assert isinstance(rows, TableTokens)
    if all(places == 1 for places in rows.tokens_per_column):
        counts = MarginalTables(rows).build((len(rows.columns),), {}, Rng(0))
        with refuses(UsageError):
            ExportedNetwork(Model.from_spec(replace(table.spec, family=GraphicalModel()), counts))
