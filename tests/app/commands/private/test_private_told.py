"""Files and reports of private fits contain nothing of the rows that was not paid for."""

import json
import math
import os
import pathlib

import pytest
from safetensors.numpy import load_file

from tests.app.asked import run
from tests.app.commands.private.private_fits import (
    ALONE,
    DESCRIBED,
    EXTREME,
    LEARNED,
    PAID,
    SEEDED,
    TINY,
    fit,
    held,
    true_epsilon,
    without,
    write_table,
)


def check_secret(folder):
    for path in folder.iterdir():
        assert EXTREME[2].encode() not in path.read_bytes()
        assert EXTREME[0].encode() not in path.read_bytes()


@pytest.mark.slow
def test_report_states_the_epsilon_of_the_accountant():
    numbers = run("fit", "people.csv", *DESCRIBED, *ALONE, "--epsilon", 4)
    folder = pathlib.Path(numbers["run"])
    truth = true_epsilon(folder, numbers["steps"])
    assert truth - 1e-9 <= numbers["epsilon"] <= min(truth + 1e-3, 4.0)
    assert (numbers["delta"], numbers["rows_protected"], numbers["valid"]) == (1e-5, LEARNED, 1.0)
    assert f"one row among the {LEARNED} rows" in held(folder / "report.json")["promise"]
    for name in ("report.html", "report.json", "metrics.jsonl"):
        assert '"loss"' not in (folder / name).read_text()
    provenance = held(folder / "recipe.json")["provenance"]
    assert provenance["private"]["unsafe_seed"] is None
    assert provenance["notes"] == []
    key = pathlib.Path("home/feller/key").read_bytes()
    for path in folder.iterdir():
        assert key not in path.read_bytes()
        assert key.hex() not in path.read_text(errors="replace")


@pytest.mark.slow
def test_changed_row_changes_noisy_numbers_only(unreported, tmp_path):
    """Both runs have the same noise, so that all differences are due to the row."""
    write_table(tmp_path / "other.csv", {7: EXTREME})
    folders = []
    for name in ("people", "other"):
        os.replace(tmp_path / f"{name}.csv", tmp_path / "table.csv")
        folders.append(fit(name, *SEEDED, data="table.csv"))
        os.replace(tmp_path / "table.csv", tmp_path / f"{name}.csv")
    one, other = folders
    names = {path.name for path in one.iterdir()}
    assert names == {path.name for path in other.iterdir()}
    assert names == {*PAID, "recipe.json", "ledger.json", "metrics.jsonl", "state.json", "lock"}
    for name, noisy in (
        ("ledger.json", ("table",)),
        ("recipe.json", ("value_probs", "marginals", "fingerprint")),
        ("model.json", ("value_probs", "marginals", "fingerprint")),
    ):
        assert without(held(one / name), *noisy) == without(held(other / name), *noisy)
    assert held(one / "state.json") == held(other / "state.json") == {"step": 8, "seconds": 60.0}
    for before, after in zip(*((path / "metrics.jsonl").read_text().splitlines() for path in folders), strict=True):
        told = json.loads(before)
        assert told.keys() == {"step", "lr", "gradient"}
        assert without(told, "gradient") == without(json.loads(after), "gradient")
    check_secret(other)


@pytest.mark.slow
def test_schema_search_is_paid_for(unreported, tmp_path):
    data = write_table(tmp_path / "many.csv", {7: EXTREME}, n=3000)
    run("fit", data, *TINY, *ALONE, *SEEDED, "--out", "r")
    folder = pathlib.Path("r")
    check_secret(folder)
    columns = held(folder / "model.json")["modality"]["schema"]["columns"]
    assert [column["name"] for column in columns] == ["age", "sex", "job"]
    assert columns[2]["values"] == ["clerk", "nurse", "smith"]
    ledger = held(folder / "ledger.json")
    told = " ".join(one["label"] for one in ledger["events"])
    for what in ("kinds of the columns", "bounds", "edges", "values of 2 columns", "counts of the values", "training"):
        assert what in told
    assert 0 < ledger["reserved_delta"] < ledger["delta"]
    assert true_epsilon(folder, 8) <= 4


def test_logged_gradient_norm_is_the_noisy_one(unreported):
    """About that of the noise alone, sigma sqrt(weights) / batch, which clipped rows hardly change."""
    folder = fit("r", *SEEDED)
    promised = held(folder / "recipe.json")["provenance"]["private"]
    weights = sum(value.size for value in load_file(folder / "weights.safetensors").values())
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert first["gradient"] == pytest.approx(promised["sigma"] * math.sqrt(weights) / promised["batch"], rel=0.05)


@pytest.mark.slow
def test_only_seeded_runs_are_repeatable(unreported):
    seeded = [fit(out, *SEEDED) for out in ("a", "b")]
    secret = [fit(out, "--epsilon", 4) for out in ("c", "d")]
    for name in (*PAID[:3], "recipe.json", "ledger.json"):
        assert (seeded[0] / name).read_bytes() == (seeded[1] / name).read_bytes()
    first, second = (held(folder / "ledger.json") for folder in secret)
    assert without(first, "table") == without(second, "table")
    assert first["table"] != second["table"]
    for name in PAID:
        assert (secret[0] / name).read_bytes() != (secret[1] / name).read_bytes()
    prints = [held(folder / "recipe.json")["provenance"]["fingerprint"] for folder in secret]
    assert prints[0] != prints[1]
    for folder in (*seeded, secret[0]):
        run("sample", folder, "-n", 50, "--out", f"{folder}.csv")
    a, b, c = (pathlib.Path(f"{folder}.csv").read_bytes() for folder in (*seeded, secret[0]))
    assert a == b != c
