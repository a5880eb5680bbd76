"""Whether weights hold the noise that is charged for them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from feller.app.workflows.auditing.audit_page import ALARM
from feller.app.workflows.auditing.noise_check import measure_noise
from feller.app.workflows.fine_tuned_run import read_recipe
from feller.app.workflows.run_config import read_fit_record, reread_data, train_test_split
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.models.model import load_model
from tests.app.asked import refuse, run


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A private run of pictures."""
    folder = tmp_path_factory.mktemp("held") / "digits"
    words = ("fit", "example:digits", "--target", "label=0,1", "--epsilon", 4, "--recipe", "logistic-private")
    run(*words, "--unsafe-seed", 0, "--out", folder)
    return Run(folder)


def test_the_size_is_about_one_and_never_an_alarm():
    """1,000 sound weights, of which three in a hundred thousand may be taken for unsound on either side."""
    generator, best = torch.Generator().manual_seed(0), torch.ones(20, dtype=torch.float64)
    found = [measure_noise(best + 3 * torch.randn(20, generator=generator).double(), best, 3.0) for _ in range(1000)]
    sizes = torch.tensor([one.size for one in found])
    assert sizes.square().mean().item() == pytest.approx(1, abs=0.05)
    assert sum(not one.minimum < one.size < one.maximum for one in found) <= 1
    quarter = measure_noise(best + 0.75 * torch.randn(20, generator=generator).double(), best, 3.0)
    assert quarter.size < quarter.minimum


def best_of(folder):
    asked, model, objective = read_fit_record(folder), load_model(folder), read_recipe(folder).objective
    kind = model.spec.modality
    rows = train_test_split(asked, reread_data(asked, kind).with_modality(kind))[0]
    return objective.solution(rows, asked.provenance.private.rho).theta


@pytest.mark.slow
def test_weights_with_too_little_noise_raise_an_alarm(digits, tmp_path):
    numbers = run("audit", digits.path)
    assert numbers["noise_held_least"] < 0.7 < numbers["noise_held"] < 1.4
    assert ALARM not in (digits.path / "report-audit.html").read_text()
    other = Run(tmp_path / "r")
    shutil.copytree(digits.path, other.path)
    best, before = best_of(digits), load_file(other.ema_weights)["theta"]
    save_file({"theta": best + (before - best) / 4}, other.ema_weights)
    numbers = run("audit", other.path)
    assert numbers["noise_held"] < 0.35
    assert ALARM in (other.path / "report-audit.html").read_text()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("ledger.json", lambda d: d["events"][0].update(sigma=1000.0)),
        ("ledger.json", lambda d: d.update(events=[])),
        ("recipe.json", lambda d: d["provenance"]["private"].update(rho=1e9)),
        ("recipe.json", lambda d: d["provenance"]["private"].update(rho=0.0)),
    ],
)
def test_ledger_of_other_noise_is_refused(digits, tmp_path, file, change):
    shutil.copytree(digits.path, tmp_path / "r")
    held = json.loads((tmp_path / "r" / file).read_text())
    change(held)
    (tmp_path / "r" / file).write_text(json.dumps(held))
    refuse("audit", tmp_path / "r", kind=InputError)


@pytest.mark.parametrize("value", [torch.nan, 1e6])
def test_damaged_weights_are_refused(digits, tmp_path, value):
    other = Run(tmp_path / "r")
    shutil.copytree(digits.path, other.path)
    theta = load_file(other.ema_weights)["theta"]
    save_file({"theta": theta.index_fill(0, torch.tensor([3]), value)}, other.ema_weights)
    refuse("audit", other.path, kind=InputError)
