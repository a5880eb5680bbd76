"""Private fits on the command line: what is written tells of no row but what was paid for."""

import json
import math
import os
import pathlib

import pytest
from safetensors.numpy import load_file

from tests.app.commands.private.private_fits import (
    ALONE,
    EXTREME,
    LEARNED,
    PAID,
    SEEDED,
    TINY,
    fit,
    held,
    run,
    true_epsilon,
    without,
    write_table,
)


@pytest.mark.slow
def test_a_report_states_what_the_accountant_says(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(
        capsys, "fit", "people.csv", "--schema", "schema.json", *TINY, *ALONE, "--epsilon", 4, "--json"
    )
    assert status == 0, err
    numbers = json.loads(out.splitlines()[-1])
    folder = pathlib.Path(numbers["run"])
    truth = true_epsilon(folder, numbers["steps"])
    assert truth - 1e-9 <= numbers["epsilon"] <= min(truth + 1e-3, 4.0)
    assert (numbers["delta"], numbers["rows_protected"], numbers["valid"]) == (1e-5, LEARNED, 1.0)
    page = (folder / "report.html").read_text()
    assert f"-differential privacy with respect to adding or removing one row among the {LEARNED} rows" in page
    assert "not covered by the guarantee" in page
    assert "counts of the values of each column" in page
    assert "total: epsilon" in page
    for told in (page, (folder / "report.json").read_text(), (folder / "metrics.jsonl").read_text()):
        assert '"loss"' not in told
    recipe = held(folder / "recipe.json")["provenance"]
    assert recipe["private"]["unsafe_seed"] is None
    assert recipe["notes"] == []
    key = pathlib.Path("home/feller/key").read_bytes()
    for path in folder.iterdir():
        assert key not in path.read_bytes()
        assert key.hex() not in path.read_text(errors="replace")


@pytest.mark.slow
def test_a_run_tells_of_a_changed_row_nothing_but_noisy_numbers(unreported, capsys, tmp_path):
    """Both runs have the same noise, so that all that differs is what a row may move."""
    write_table(tmp_path / "other.csv", {7: EXTREME})
    folders = []
    for name in ("people", "other"):
        os.replace(tmp_path / f"{name}.csv", tmp_path / "table.csv")
        folders.append(fit(capsys, name, *SEEDED, data="table.csv"))
        os.replace(tmp_path / "table.csv", tmp_path / f"{name}.csv")
    one, other = folders
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert {*names} == {*PAID, "recipe.json", "ledger.json", "metrics.jsonl", "state.json", "lock"}
    assert without(held(one / "ledger.json"), "table") == without(held(other / "ledger.json"), "table")
    for name in ("recipe.json", "model.json"):
        assert without(held(one / name), "value_probs", "marginals", "fingerprint") == without(
            held(other / name), "value_probs", "marginals", "fingerprint"
        )
    assert held(one / "state.json") == held(other / "state.json") == {"step": 8, "seconds": 60.0}
    for before, after in zip(*((path / "metrics.jsonl").read_text().splitlines() for path in folders), strict=True):
        told = json.loads(before)
        assert told.keys() == {"step", "lr", "gradient"}
        assert without(told, "gradient") == without(json.loads(after), "gradient")
    check_secret(other)


def check_secret(folder: pathlib.Path) -> None:
    for path in folder.iterdir():
        assert EXTREME[2].encode() not in path.read_bytes()
        assert EXTREME[0].encode() not in path.read_bytes()


@pytest.mark.slow
def test_where_nobody_described_the_columns_that_is_paid_for_too(unreported, capsys, tmp_path):
    data = write_table(tmp_path / "many.csv", {7: EXTREME}, n=3000)
    status, _, err = run(capsys, "fit", data, *TINY, *ALONE, *SEEDED, "--out", "r")
    assert status == 0, err
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


def test_the_logged_gradient_is_the_noisy_one(unreported: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Its length is about that of the noise alone: sigma sqrt(weights) / batch, which clipped rows hardly move."""
    folder = fit(capsys, "r", *SEEDED)
    promised = held(folder / "recipe.json")["provenance"]["private"]
    weights = sum(value.size for value in load_file(folder / "weights.safetensors").values())
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert first["gradient"] == pytest.approx(promised["sigma"] * math.sqrt(weights) / promised["batch"], rel=0.05)


@pytest.mark.slow
def test_a_seed_repeats_a_run_and_without_one_none_is_repeated(unreported, capsys):
    seeded = [fit(capsys, out, *SEEDED) for out in ("a", "b")]
    secret = [fit(capsys, out, "--epsilon", 4) for out in ("c", "d")]
    for name in (*PAID[:3], "recipe.json", "ledger.json"):
        assert (seeded[0] / name).read_bytes() == (seeded[1] / name).read_bytes()
    first, second = (held(folder / "ledger.json") for folder in secret)
    assert without(first, "table") == without(second, "table")
    assert first["table"] != second["table"]
    for name in PAID:
        assert (secret[0] / name).read_bytes() != (secret[1] / name).read_bytes()
    prints = [held(folder / "recipe.json")["provenance"]["fingerprint"] for folder in secret]
    assert prints[0] != prints[1]
    tables = []
    for folder in (*seeded, secret[0]):
        assert run(capsys, "sample", folder, "-n", 50, "--out", f"{folder}.csv")[0] == 0
        tables.append(pathlib.Path(f"{folder}.csv").read_bytes())
    assert tables[0] == tables[1]
    assert tables[1] != tables[2]
