"""Runs of each older format open, draw the same samples and resume."""

import json
import pathlib
from typing import Any

import pytest
import torch

from feller.app.cli import main
from feller.app.config import FitConfig
from feller.app.options import from_record, to_record
from feller.app.workflows.run_config import read_fit_record
from feller.core import migrations
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.models.model import load_model
from feller.models.spec import load_spec, save_spec
from feller.training.checkpoint import read_counters
from tests.errors import refuses
from tests.safety.specimen_runs import copied

pytestmark = pytest.mark.portable

OLD = [[0.3546427, 0.0311828], [1.0776806, 0.7514004], [0.1398128, 0.2741731]]
DRAWN = {
    1: OLD,
    2: OLD,
    3: [
        [-4.3585828, -7.9240648, -6.2703652, 13.499798, -0.82300599],
        [17.467708, 18.623781, -7.4104293, -17.85115, 7.9328574],
        [-10.827498, 1.0295111, -12.315532, -0.15274791, -6.7231898],
    ],
}
"""What the kept run of each format drew on the day it was made."""
ASKED = {"data": "example:moons", "recipe": "points", "size": "small"}
CONFIG = {1: ASKED, 2: ASKED, 3: {"data": "example:cells", "recipe": "points", "report": "none", "seed": 0, "steps": 4}}


def drawn(run: Any) -> torch.Tensor:
    return load_model(run).sample_dataset(3, rng=Rng(7)).values


@pytest.fixture(params=range(migrations.OLDEST_FORMAT, migrations.current_format()))
def kept(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> tuple[Run, int]:
    return copied(tmp_path / "r", request.param), request.param


def test_samples_of_kept_runs(kept: tuple[Run, int]) -> None:
    run, written = kept
    torch.testing.assert_close(drawn(run), torch.tensor(DRAWN[written]).double(), rtol=1e-4, atol=1e-5)


def test_fit_record_of_kept_runs(kept: tuple[Run, int]) -> None:
    run, written = kept
    record = read_fit_record(run)
    assert to_record(record.config) == CONFIG[written]
    assert (record.provenance.recipe, record.provenance.size, record.seed) == ("points", "small", 0)
    assert len(record.provenance.fingerprint.removeprefix("read-")) == 16


def test_migrated_privacy_config() -> None:
    planned = {"epsilon": 8.0, "delta": 1e-05, "sigma": 1.0, "by_noise": True, "unsafe_seed": 1}
    asked = {"data": "a.csv", "recipe": "table", "size": "tiny", "seed": 0, "target": [], "project": False}
    old = {"format": 2, "asked": {**asked, "private": planned, "watched": 4, "notes": ["n"]}, "recipe": {}}
    new = migrations.migrate("recipe.json", old)
    assert new["provenance"] == {"recipe": "table", "size": "tiny", "private": planned, "notes": ["n"]}
    config = from_record(FitConfig, new["config"])
    assert (config.data, config.size, config.target, config.seed) == ("a.csv", "tiny", (), None)
    assert (config.privacy.noise, config.privacy.stop_at_epsilon, config.privacy.epsilon) == (1.0, 8.0, None)
    assert (config.privacy.audit, config.privacy.unsafe_seed) == (("fisher=4",), 1)


def test_resume_of_kept_runs(kept: tuple[Run, int]) -> None:
    run, _ = kept
    before = load_tensors(run.weights)[0]
    assert main(["fit", "--resume", "--out", str(run.path), "--steps", "6"]) == 0
    assert read_counters(run)["step"] == 6
    after = load_tensors(run.weights)[0]
    names = migrations.names_before(load_model(run).network, after)  # a run that goes on has names of now
    assert before.keys() == {*names.values()}
    assert any(not torch.equal(before[names[name]], after[name]) for name in after)


def test_written_format(tmp_path: pathlib.Path) -> None:
    run = copied(tmp_path / "r")
    run.write_record(run.ledger, {})
    save_spec(run, load_spec(run))
    assert (
        json.loads(run.ledger.read_text())["format"]
        == migrations.current_format()
        == json.loads(run.model.read_text())["format"]
    )


@pytest.mark.parametrize(
    ("written", "found"), [(99, "format 99, written by feller 0.1.0"), (0, "0"), (True, "True"), ("1", "'1'")]
)
def test_unsupported_formats(tmp_path: pathlib.Path, written: object, found: str) -> None:
    run = copied(tmp_path / "r")
    run.model.write_text(json.dumps({**json.loads(run.model.read_text()), "format": written}))
    with refuses(InputError, file=str(run.model), found=found):
        load_model(run)


def test_migrations_are_applied_in_order(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if two formats had come before: in the first the network had another name, in the second its width."""

    def renamed(name: str, content: migrations.Record) -> migrations.Record:
        rest = {key: value for key, value in content.items() if key != "network"}
        return {**rest, "architecture": content["network"]} if name == "model.json" else content

    def widened(name: str, content: migrations.Record) -> migrations.Record:
        if name != "model.json":
            return content
        inner = dict(content["architecture"])
        width = inner.pop("features")
        return {**content, "architecture": {**inner, "width": width}}

    run, wanted = copied(tmp_path / "r"), drawn(copied(tmp_path / "s"))
    monkeypatch.setattr(migrations, "OLDEST_FORMAT", -1)
    monkeypatch.setattr(migrations, "MIGRATIONS", (renamed, widened, *migrations.MIGRATIONS))
    content = json.loads(run.model.read_text())
    network = content.pop("architecture")
    network["features"] = network.pop("width")
    run.model.write_text(json.dumps({**content, "network": network, "format": -1}))
    assert torch.equal(drawn(run), wanted)
    run.model.write_text(json.dumps({**content, "architecture": network, "format": 0}))
    assert torch.equal(drawn(run), wanted)
