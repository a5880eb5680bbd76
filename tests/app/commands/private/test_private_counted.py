"""Private fits that count first: columns, classes, lengths of gradients."""

import pathlib
from typing import Any

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
from tests.app.commands.private.private_fits import SEEDED, TINY, fit, held, run, steps_in, true_epsilon, write_table


@pytest.mark.slow
@pytest.mark.parametrize("data", ["drawn.npz", "example:digits"])
def test_private_pictures(data: str, unreported: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares of the classes are noisy, in a resumed run too."""
    chance = np.random.default_rng(0)
    np.savez(
        "drawn.npz", samples=chance.integers(0, 13, (1000, 4, 4), dtype=np.uint8), labels=chance.integers(0, 10, 1000)
    )
    status, _, err = run(capsys, "fit", data, "--epsilon", 8, "--steps", 5, "--size", "tiny", "--out", "r")
    assert status == 0, err
    folder = pathlib.Path("r")
    shares = held(folder / "model.json")["frequencies"]["label"]
    n = held(folder / "ledger.json")["n"]
    seen = read(data)
    exact = np.bincount(train_test_split(read_fit_record(Run(folder)), seen)[0].given["label"], minlength=10) / n
    sigma = held(folder / "ledger.json")["events"][0]["sigma"]
    assert sum(shares) == pytest.approx(1)
    assert 0.2 * sigma < n * np.std(shares - exact) < 2 * sigma
    assert steps_in(folder) == 5
    assert true_epsilon(folder, 5) <= 8
    assert held(folder / "model.json")["modality"].get("levels", 255) == (16 if ":" in data else 255)
    before = (folder / "model.json").read_bytes()
    fit(capsys, "r", "--resume")
    assert (folder / "model.json").read_bytes() == before
    assert "loss" not in (folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize("clip", ["0.5", "adaptive"])
def test_clips(clip: str, capsys: pytest.CaptureFixture[str], unreported: None) -> None:
    folder = fit(capsys, "r", *SEEDED, "--clip", clip)
    planned = held(folder / "recipe.json")["provenance"]["private"]
    assert (planned["clip"], planned["adaptive"]) == ((0.5, False) if clip == "0.5" else (1.0, True))
    assert 3.99 < true_epsilon(folder, steps_in(folder)) <= 4


@pytest.mark.slow
def test_counts_come_first_and_are_paid_for(capsys: pytest.CaptureFixture[str], unreported: None) -> None:
    folder = fit(capsys, "r", *SEEDED, "--objective.marginals-budget", "0.5")
    spent = held(folder / "ledger.json")["events"]
    whats = [one["label"] for one in spent]
    assert whats == ["counts of each column", "choice of tables", "counts of the tables", "training"]
    assert sum(one["rho"] for one in spent[:3]) == pytest.approx(0.5 * rho_from_epsilon(4.0, 1e-5), rel=0.01)
    numbers = guarantee_numbers(ledger_of(Run(folder)))
    assert 3.9 < numbers["epsilon"] <= 4
    kind = held(folder / "model.json")["modality"]
    assert kind["crosstab_rows"] == held(folder / "ledger.json")["n"]
    assert {tuple(table["columns"]) for table in kind["crosstabs"]} >= {(0,), (1,), (2,)}
    status, _, err = run(capsys, "sample", folder, "-n", 50, "--out", "made.csv")
    assert status == 0, err
    assert main(["evaluate", str(folder), "--samples", "made.csv"]) == 0


def test_a_start_from_public_rows_is_not_taught_anew(capsys: pytest.CaptureFixture[str], unreported: None) -> None:
    write_table(pathlib.Path("census.csv"), n=200, change={0: ("30", "M", "nurse")})
    status, _, err = run(capsys, "fit", "census.csv", "--schema", "schema.json", *TINY, "--out", "public")
    assert status == 0, err
    status, _, err = run(capsys, "fit", "people.csv", "--start-from", "public", "--steps", 8, *SEEDED, "--out", "r")
    assert status == 0, err
    assert "pretraining on rows" not in err
    assert held(pathlib.Path("r") / "model.json")["modality"]["crosstabs"] == []


@pytest.mark.slow
def test_counts_of_an_older_table_are_left_behind(capsys: pytest.CaptureFixture[str], unreported: None) -> None:
    fit(capsys, "older", *SEEDED, "--objective.marginals-budget", "0.5")
    assert held(pathlib.Path("older/model.json"))["modality"]["crosstabs"]
    write_table(pathlib.Path("others.csv"), n=320, change=dict.fromkeys(range(300), ("30", "M", "nurse")))
    for words in ((), SEEDED):
        status, _, err = run(
            capsys, "fit", "others.csv", "--start-from", "older", "--steps", 8, *words, "--out", "r", "--overwrite"
        )
        assert status == 0, err
        kind = held(pathlib.Path("r/model.json"))["modality"]
        assert (kind["crosstabs"], kind["crosstab_rows"]) == ([], 0)
        assert kind["marginals"][1][1] > 0.8


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_learns_from_counts_goes_on(capsys, unreported, monkeypatch):
    lesson, heard = pretrain_on_marginals.pretrain_on_rows, []

    def killed(*args: Any, **others: Any) -> None:
        heard.append(len(heard))
        if len(heard) == 1:
            raise KeyboardInterrupt
        lesson(*args, **others)

    monkeypatch.setattr(pretrain_on_marginals, "pretrain_on_rows", killed)
    asked = ("people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--out", "r")
    status, _, _ = run(capsys, "fit", *asked)
    assert status == 130
    spent = held(pathlib.Path("r/ledger.json"))["events"]
    assert [one["label"] for one in spent] == ["counts of each column", "choice of tables", "counts of the tables"]
    status, _, err = run(capsys, "fit", "--resume", "--out", "r")
    assert status == 0, err
    assert heard == [0, 1]
    after = held(pathlib.Path("r/ledger.json"))["events"]
    assert after[:3] == spent
    assert steps_in(pathlib.Path("r")) == 8
