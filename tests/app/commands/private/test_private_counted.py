"""Private fits that first release marginals, class frequencies or gradient norms."""

import pathlib

import numpy as np
import pytest

from feller.app.cli import main
from feller.app.workflows.private import pretrain_on_marginals
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.private.guarantee_text import guarantee_numbers
from feller.app.workflows.run_config import read_fit_record, train_test_split
from feller.core.run_folder import Run
from feller.data.loading.dataset_reader import read
from feller.privacy.accounting.zcdp import rho_from_epsilon
from tests.app.asked import run
from tests.app.commands.private.private_fits import (
    DESCRIBED,
    SEEDED,
    TINY,
    fit,
    held,
    steps_in,
    true_epsilon,
    write_table,
)

pytestmark = pytest.mark.usefixtures("unreported")
MARGINALS = ["counts of each column", "choice of tables", "counts of the tables"]


@pytest.mark.slow
@pytest.mark.parametrize("data", ["drawn.npz", "example:digits"])
def test_class_frequencies_of_images_are_noisy(data):
    """In a resumed run too."""
    chance = np.random.default_rng(0)
    images, labels = chance.integers(0, 13, (1000, 4, 4), dtype=np.uint8), chance.integers(0, 10, 1000)
    np.savez("drawn.npz", samples=images, labels=labels)
    run("fit", data, "--epsilon", 8, "--steps", 5, "--size", "tiny", "--out", "r")
    folder = pathlib.Path("r")
    model, ledger = held(folder / "model.json"), held(folder / "ledger.json")
    shares, n, sigma = model["frequencies"]["label"], ledger["n"], ledger["events"][0]["sigma"]
    train = train_test_split(read_fit_record(Run(folder)), read(data))[0]
    exact = np.bincount(train.given["label"], minlength=10) / n
    assert sum(shares) == pytest.approx(1)
    assert 0.2 * sigma < n * np.std(shares - exact) < 2 * sigma
    assert steps_in(folder) == 5
    assert true_epsilon(folder, 5) <= 8
    assert model["modality"].get("levels", 255) == (16 if ":" in data else 255)
    fit("r", "--resume")
    assert held(folder / "model.json") == model
    assert "loss" not in (folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize("clip", ["0.5", "adaptive"])
def test_clipping_norms(clip):
    folder = fit("r", *SEEDED, "--clip", clip)
    planned = held(folder / "recipe.json")["provenance"]["private"]
    assert (planned["clip"], planned["adaptive"]) == ((0.5, False) if clip == "0.5" else (1.0, True))
    assert 3.99 < true_epsilon(folder, steps_in(folder)) <= 4


@pytest.mark.slow
def test_marginals_are_in_the_ledger():
    folder = fit("r", *SEEDED, "--objective.marginals-budget", "0.5")
    spent = held(folder / "ledger.json")["events"]
    assert [one["label"] for one in spent] == [*MARGINALS, "training"]
    assert sum(one["rho"] for one in spent[:3]) == pytest.approx(0.5 * rho_from_epsilon(4.0, 1e-5), rel=0.01)
    assert 3.9 < guarantee_numbers(ledger_of(Run(folder)))["epsilon"] <= 4
    kind = held(folder / "model.json")["modality"]
    assert kind["crosstab_rows"] == held(folder / "ledger.json")["n"]
    assert {tuple(table["columns"]) for table in kind["crosstabs"]} >= {(0,), (1,), (2,)}
    run("sample", folder, "-n", 50, "--out", "made.csv")
    run("evaluate", folder, "--samples", "made.csv")


def test_start_from_public_rows_is_not_pretrained():
    write_table(pathlib.Path("census.csv"), n=200, change={0: ("30", "M", "nurse")})
    run("fit", "census.csv", *DESCRIBED, "--out", "public")
    run("fit", "people.csv", "--start-from", "public", "--steps", 8, *SEEDED, "--out", "r")
    assert held(pathlib.Path("r/model.json"))["modality"]["crosstabs"] == []


@pytest.mark.slow
def test_marginals_of_the_start_are_dropped():
    fit("older", *SEEDED, "--objective.marginals-budget", "0.5")
    assert held(pathlib.Path("older/model.json"))["modality"]["crosstabs"]
    write_table(pathlib.Path("others.csv"), n=320, change=dict.fromkeys(range(300), ("30", "M", "nurse")))
    for words in ((), SEEDED):
        run("fit", "others.csv", "--start-from", "older", "--steps", 8, *words, "--out", "r", "--overwrite")
        kind = held(pathlib.Path("r/model.json"))["modality"]
        assert (kind["crosstabs"], kind["crosstab_rows"]) == ([], 0)
        assert kind["marginals"][1][1] > 0.8


@pytest.mark.slow
def test_interrupted_pretraining_is_resumed(monkeypatch):
    pretrain, calls = pretrain_on_marginals.pretrain_on_rows, []

    def killed(*args, **others):
        calls.append(len(calls))
        if len(calls) == 1:
            raise KeyboardInterrupt
        pretrain(*args, **others)

    monkeypatch.setattr(pretrain_on_marginals, "pretrain_on_rows", killed)
    assert main(["fit", "people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--out", "r"]) == 130
    spent = held(pathlib.Path("r/ledger.json"))["events"]
    assert [one["label"] for one in spent] == MARGINALS
    run("fit", "--resume", "--out", "r")
    assert calls == [0, 1]
    assert held(pathlib.Path("r/ledger.json"))["events"][:3] == spent
    assert steps_in(pathlib.Path("r")) == 8
