"""Private fits on the command line: what is written tells of no row but what was paid for; the ledger never lies."""

import functools
import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from safetensors.numpy import load_file

from feller.cli import main
from feller.data import read
from feller.journeys.asked import asked_of, parts
from feller.journeys.private import guard, plan, privately, rehearse
from feller.journeys.private.promise import promised
from feller.journeys.private.purse import ledger_of
from feller.privacy.concentrated import rho_of
from feller.privacy.expense import Gaussian
from feller.privacy.ledger import Ledger
from feller.run import Run

SCHEMA = {
    "unit": "row",
    "outside": "clip",
    "columns": {
        "age": {"kind": "numerical", "low": 0, "high": 100, "edges": [20, 40, 60, 80]},
        "sex": {"kind": "categorical", "values": ["F", "M"]},
        "job": {"kind": "categorical", "values": ["clerk", "nurse", "smith"], "other": "else"},
    },
    "rules": [],
}
TINY = ("--size", "tiny", "--steps", "8")
ALONE = ("--objective.counted", "0")
"""Columns are counted each by itself, so that all that is spent is normal noise."""
SEEDED = ("--epsilon", "4", "--unsafe-seed", "1")
PAID = ("model.json", "average.safetensors", "weights.safetensors", "state.safetensors")
"""What is made of noisy numbers alone."""
LEARNED = 271
"""Rows of 300 that the salt of these tests leaves to learn from, and to which the extreme one belongs."""
EXTREME = ("87654321", "F", "xylophonist")


def write_table(path: pathlib.Path, change: dict[int, tuple[str, ...]] | None = None, n: int = 300) -> str:
    chance = random.Random(0)
    rows = [
        (str(chance.randint(18, 80)), chance.choice("FM"), chance.choices(("clerk", "nurse", "smith"), (5, 3, 2))[0])
        for _ in range(n)
    ]
    for row, cells in (change or {}).items():
        rows[row] = cells  # pyrefly: ignore
    path.write_text("age,sex,job\n" + "".join(",".join(row) + "\n" for row in rows))
    return str(path)


CALIBRATED = functools.cache(plan.calibrate)
"""The same noise for the same plan, which takes a second to find."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "calibrate", CALIBRATED)
    monkeypatch.setattr("feller.journeys.fitting.begin._salt", lambda wish: "open-1")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    write_table(tmp_path / "people.csv")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit without a report, which is for the owner of the rows and takes longest."""
    monkeypatch.setattr("feller.journeys.fit.evaluate", lambda run, tell: {})


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def fit(capsys: pytest.CaptureFixture[str], out: str, *words: object, data: str = "people.csv") -> pathlib.Path:
    described = (
        ()
        if "--resume" in words
        else (data, "--schema", "schema.json", *TINY, *(() if "--objective.counted" in words else ALONE))
    )
    status, _, err = run(capsys, "fit", *described, *words, "--out", out)
    assert status == 0, err
    return pathlib.Path(out)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    status, out, err = run(capsys, "fit", *words)
    assert status != 0
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1]


def held(path: pathlib.Path) -> Any:
    return json.loads(path.read_text())


def steps_in(folder: pathlib.Path) -> int:
    return sum(one["steps"] for one in held(folder / "ledger.json")["expenses"] if one["is"] == "Subsampled")


def true_epsilon(folder: pathlib.Path, steps: int) -> float:
    """Return what dp-accounting says of the noise of a run and the steps that were really taken."""
    ledger, promised = held(folder / "ledger.json"), held(folder / "recipe.json")["asked"]["private"]
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for one in ledger["expenses"]:
        if one["is"] == "Gaussian":
            accountant.compose(dp.GaussianDpEvent(one["sigma"] / math.sqrt(one["times"])))
    step = dp.PoissonSampledDpEvent(promised["batch"] / promised["n"], dp.GaussianDpEvent(promised["sigma"]))
    accountant.compose(step, steps)
    return accountant.get_epsilon(ledger["delta"])


def without(content: Any, *names: str) -> Any:
    """Return a record without the fields of some names."""
    if isinstance(content, dict):
        return {name: without(value, *names) for name, value in content.items() if name not in names}
    return [without(value, *names) for value in content] if isinstance(content, list) else content


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
    assert f"-differential privacy with respect to adding or removing one row of the {LEARNED} rows" in page
    assert "not covered by the guarantee" in page
    assert "counts of the values of each column" in page
    assert "all together: epsilon" in page
    for told in (page, (folder / "report.json").read_text(), (folder / "metrics.jsonl").read_text()):
        assert '"loss"' not in told
    recipe = held(folder / "recipe.json")["asked"]
    assert recipe["private"]["unsafe_seed"] is None
    assert recipe["notes"] == []
    key = pathlib.Path("home/feller/key").read_bytes()
    for path in folder.iterdir():
        assert key not in path.read_bytes()
        assert key.hex() not in path.read_text(errors="replace")


@pytest.mark.slow
def test_a_run_tells_of_a_changed_row_nothing_but_noisy_numbers(
    blind: None, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
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
        assert without(held(one / name), "shares", "fingerprint") == without(
            held(other / name), "shares", "fingerprint"
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
def test_where_nobody_described_the_columns_that_is_paid_for_too(
    blind: None, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    data = write_table(tmp_path / "many.csv", {7: EXTREME}, n=3000)
    status, _, err = run(capsys, "fit", data, *TINY, *ALONE, *SEEDED, "--out", "r")
    assert status == 0, err
    folder = pathlib.Path("r")
    check_secret(folder)
    columns = held(folder / "model.json")["modality"]["schema"]["columns"]
    assert [column["name"] for column in columns] == ["age", "sex", "job"]
    assert columns[2]["values"] == ["clerk", "nurse", "smith"]
    ledger = held(folder / "ledger.json")
    told = " ".join(one["what"] for one in ledger["expenses"])
    for what in ("kinds of the columns", "bounds", "edges", "values of 2 columns", "counts of the values", "training"):
        assert what in told
    assert 0 < ledger["reserved"] < ledger["delta"]
    assert true_epsilon(folder, 8) <= 4


def test_the_logged_gradient_is_the_noisy_one(blind: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Its length is about that of the noise alone: sigma sqrt(weights) / batch, which clipped rows hardly move."""
    folder = fit(capsys, "r", *SEEDED)
    promised = held(folder / "recipe.json")["asked"]["private"]
    weights = sum(value.size for value in load_file(folder / "weights.safetensors").values())
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert first["gradient"] == pytest.approx(promised["sigma"] * math.sqrt(weights) / promised["batch"], rel=0.05)


@pytest.mark.slow
def test_a_seed_repeats_a_run_and_without_one_none_is_repeated(blind: None, capsys: pytest.CaptureFixture[str]) -> None:
    seeded = [fit(capsys, out, *SEEDED) for out in ("a", "b")]
    secret = [fit(capsys, out, "--epsilon", 4) for out in ("c", "d")]
    for name in (*PAID[:3], "recipe.json", "ledger.json"):
        assert (seeded[0] / name).read_bytes() == (seeded[1] / name).read_bytes()
    first, second = (held(folder / "ledger.json") for folder in secret)
    assert without(first, "table") == without(second, "table")
    assert first["table"] != second["table"]
    for name in PAID:
        assert (secret[0] / name).read_bytes() != (secret[1] / name).read_bytes()
    prints = [held(folder / "recipe.json")["asked"]["fingerprint"] for folder in secret]
    assert prints[0] != prints[1]
    tables = []
    for folder in (*seeded, secret[0]):
        assert run(capsys, "sample", folder, "-n", 50, "--out", f"{folder}.csv")[0] == 0
        tables.append(pathlib.Path(f"{folder}.csv").read_bytes())
    assert tables[0] == tables[1]
    assert tables[1] != tables[2]


def test_a_finished_run_that_is_resumed_changes_nothing(blind: None, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fit(capsys, "r", "--epsilon", 4)
    before = {name: (folder / name).read_bytes() for name in (*PAID, "state.json", "recipe.json", "ledger.json")}
    fit(capsys, "r", "--resume")
    for name, content in before.items():
        assert (folder / name).read_bytes() == content, name


def test_resuming_with_another_batch_steps_data_or_wish_is_refused(
    blind: None, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    folder = fit(capsys, "r", "--epsilon", 4)
    again = ("--resume", "--out", folder)
    assert "batches of 75, not 70: its ledger would lie" in refused(capsys, *again, "--train.batch", 70)
    assert "planned for 8 steps" in refused(capsys, *again, "--steps", 9)
    assert "planned for 8 steps" in refused(capsys, *again, "--minutes", 1)
    assert "examples that serve several steps" in refused(capsys, *again, "--train.replay", 4)
    assert "keeps its privacy" in refused(capsys, *again, "--epsilon", 9)
    write_table(tmp_path / "people.csv", {3: ("20", "F", "clerk")})
    assert "is not what it was when this run was fitted" in refused(capsys, *again)
    write_table(tmp_path / "people.csv")
    (tmp_path / "home" / "feller" / "key").unlink()
    assert "or the key in" in refused(capsys, *again)
    assert steps_in(folder) == 8


def test_a_run_without_its_own_ledger_is_not_gone_on_with(blind: None, capsys: pytest.CaptureFixture[str]) -> None:
    """It must not train without noise, nor count less than its weights have seen."""
    folder = fit(capsys, "r", "--epsilon", 4)
    content = held(folder / "ledger.json")
    content["expenses"][-1]["steps"] = 5
    (folder / "ledger.json").write_text(json.dumps(content))
    weights = (folder / "weights.safetensors").read_bytes()
    assert "counts 5 steps, and these weights took 8" in refused(capsys, "--resume", "--out", folder)
    (folder / "ledger.json").unlink()
    assert "nobody knows what this run has spent" in refused(capsys, "--resume", "--out", folder)
    assert (folder / "weights.safetensors").read_bytes() == weights


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Let something happen when a step draws its batch."""
    real = privately.poisson_batches

    def wrapped(*args: Any) -> Any:
        draw = real(*args)

        def batch(now: int, rows: slice) -> Any:
            if now == step:
                act()
            return draw(now, rows)

        return batch

    monkeypatch.setattr(privately, "poisson_batches", wrapped)


@pytest.mark.slow
def test_after_ctrl_c_the_ledger_counts_the_steps_taken_and_the_run_goes_on(
    blind: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
        status, _, err = run(
            capsys, "fit", "people.csv", "--schema", "schema.json", *TINY, "--epsilon", 4, "--out", "r"
        )
    assert status == 130
    assert "feller fit --resume --out r" in err
    folder = pathlib.Path("r")
    assert steps_in(folder) == held(folder / "state.json")["step"] == 6
    fit(capsys, "r", "--resume")
    assert steps_in(folder) == held(folder / "state.json")["step"] == 8
    assert true_epsilon(folder, 8) <= 4


KILLED = """
import os, signal, sys
from feller.cli import main
from feller.journeys.private import privately
real = privately.poisson_batches
def wrapped(*args):
    draw = real(*args)
    def batch(step, rows):
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(step, rows)
    return batch
privately.poisson_batches = wrapped
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_what_a_killed_run_spent_stays_spent(blind: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("fit", "people.csv", "--schema", "schema.json", "--size", "tiny", "--steps", "30", "--epsilon", "4")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words, "--out", "r"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = pathlib.Path("r")
    assert steps_in(folder) == 25
    assert held(folder / "state.json")["step"] <= 3
    fit(capsys, "r", "--resume")
    assert steps_in(folder) == 30
    assert held(folder / "state.json")["step"] <= 8


def test_cells_outside_the_schema_are_clipped_or_refused_as_it_says(
    blind: None, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    data = write_table(tmp_path / "far.csv", {3: ("-5", "F", "xylophonist"), 4: EXTREME})
    folder = fit(capsys, "r", "--epsilon", 4, data=data)
    assert run(capsys, "sample", folder, "-n", 200, "--out", "new.csv")[0] == 0
    rows = [line.split(",") for line in pathlib.Path("new.csv").read_text().splitlines()[1:]]
    assert all(0 <= float(row[0]) <= 100 for row in rows)
    assert {row[2] for row in rows} <= {"clerk", "nurse", "smith", "else"}
    (tmp_path / "schema.json").write_text(json.dumps({**SCHEMA, "outside": "refuse"}))
    told = refused(capsys, data, "--schema", "schema.json", *TINY, "--epsilon", 4, "--out", "s")
    assert "column 'age' holds '-5'" in told
    assert not pathlib.Path("s").exists()


def test_wishes_that_cannot_be_kept_are_refused_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    table = ("people.csv", "--schema", "schema.json", *TINY, "--out", "r")
    told = refused(capsys, *table, "--epsilon", 0.01)
    assert f"epsilon 0.01 is too small for {LEARNED} rows" in told
    assert "the smallest that works is" in told
    assert f"between 0 and 1 / {LEARNED}" in refused(capsys, *table, "--epsilon", 4, "--delta", 0.01)
    assert "--delta is a chance" in refused(capsys, *table, "--epsilon", 4, "--delta", "small")
    assert "give one of both" in refused(capsys, *table, "--delta", 1e-6)
    assert "--noise needs --stop-at-epsilon" in refused(capsys, *table, "--noise", 1.1)
    assert "a single step spends more" in refused(capsys, *table, "--noise", 0.3, "--stop-at-epsilon", 2)
    assert "these data are a table" in refused(capsys, *table, "--epsilon", 4, "--recipe", "points")
    wish = ("--epsilon", 4, *TINY, "--out", "r")
    pathlib.Path("book.txt").write_text("to be, or not to be; the rest is silence. " * 40)
    assert "these data are text" in refused(capsys, "book.txt", *wish)
    assert "these data are" in refused(capsys, "example:moons", *wish)
    assert "regressor" in refused(capsys, "example:digits", *wish, "--target", "label")
    np.savez("table.npz", samples=np.array([["a", "b"], ["c", "d"]] * 40), columns=np.array(["one", "two"]))
    assert "described by its cells, which is not private" in refused(capsys, "table.npz", *wish)
    assert "has no size, space or vocabulary" in refused(capsys, "people.csv", *wish, "--longest", 8)
    assert not pathlib.Path("r").exists()


def test_a_model_that_saw_the_rows_is_no_start(
    blind: None, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    fit(capsys, "open")
    (tmp_path / "copy.csv").write_bytes((tmp_path / "people.csv").read_bytes())
    for data in ("people.csv", "./people.csv", "copy.csv"):
        assert "what it knows of them would not be counted" in refused(
            capsys, data, *TINY, "--epsilon", 4, "--start-from", "open", "--out", "r"
        )
    write_table(tmp_path / "public.csv", n=200, change=dict.fromkeys(range(50), ("30", "F", "nurse")))
    fit(capsys, "public", data="public.csv")
    status, _, err = run(capsys, "fit", "people.csv", *TINY, "--epsilon", 4, "--start-from", "public", "--out", "r")
    assert status == 0, err
    before = pathlib.Path("r/model.json").read_bytes()
    fit(capsys, "r", "--resume")
    assert pathlib.Path("r/model.json").read_bytes() == before


def test_a_model_whose_beginnings_saw_the_rows_is_no_start(
    blind: None, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    """Of a chain all links count, by the record of the last, or, where that is older, by the folders that it names."""
    wish = (*TINY, "--epsilon", 4, "--out", "r")
    write_table(tmp_path / "public.csv", n=200, change=dict.fromkeys(range(50), ("30", "F", "nurse")))
    fit(capsys, "first", "--epsilon", 4)
    assert run(capsys, "fit", "public.csv", *TINY, "--start-from", "first", "--out", "second")[0] == 0
    assert run(capsys, "fit", "public.csv", *TINY, "--start-from", "second", "--out", "third")[0] == 0
    (tmp_path / "copy.csv").write_bytes((tmp_path / "people.csv").read_bytes())
    for data in ("people.csv", "copy.csv"):
        for start in ("second", "third"):
            assert "what it knows of them would not be counted" in refused(capsys, data, *wish, "--start-from", start)
    for name in ("second", "third"):
        record = held(tmp_path / name / "recipe.json")
        del record["asked"]["ancestors"]
        (tmp_path / name / "recipe.json").write_text(json.dumps(record))
    assert "what it knows of them" in refused(capsys, "copy.csv", *wish, "--start-from", "third")
    os.rename("first", "elsewhere")
    assert "has learned from what first was fitted to, of which nobody knows" in refused(
        capsys, "copy.csv", *wish, "--start-from", "third"
    )


@pytest.mark.slow
def test_what_an_overwritten_run_spent_is_kept_and_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("feller.journeys.fit.evaluate", lambda run, tell: {})
        folder = fit(capsys, "r", *SEEDED)
        ledger = (folder / "ledger.json").read_bytes()
        fit(capsys, "r", "--overwrite")  # a run without privacy in its place
    again = ("people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--overwrite", "--out", "r")
    status, _, err = run(capsys, "fit", *again)
    assert status == 0, err
    told = [line for line in err.splitlines() if "an earlier run in this folder spent epsilon" in line]
    assert len(told) == 1
    assert "of people.csv, which adds to all that is spent of the same rows: r/spent/1/ledger.json" in told[0]
    assert (folder / "report.html").read_text().count("an earlier run in this folder spent epsilon") == 1
    assert (folder / "spent" / "1" / "ledger.json").read_bytes() == ledger
    assert held(folder / "spent" / "1" / "recipe.json")["asked"]["private"]["epsilon"] == 4.0


@pytest.mark.parametrize(
    "wrong",
    [
        ("--minutes", 1),
        ("--train.lrr", 1),
        ("--train.batch", 0),
        ("--size", "tinny"),
        ("--recipe", "tabel"),
        ("--target", "aeg"),
        ("--objective.counted", 2),
        ("--audit", "fisher=9"),
        ("--audit", "fisher=900"),
    ],
)
def test_a_slip_of_the_pen_spends_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, wrong: tuple[str, object]
) -> None:
    data = write_table(tmp_path / "many.csv", n=300)
    told = refused(capsys, data, *SEEDED, *wrong, "--out", "r")
    assert "has spent" not in told
    assert not (tmp_path / "r" / "spent").exists()


@pytest.mark.slow
def test_a_search_for_columns_whose_fit_is_refused_has_spent_all_the_same(
    blind: None, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    data = write_table(tmp_path / "many.csv", n=3000)
    told = refused(capsys, data, *TINY, *SEEDED, "--epsilon", "0.001", "--out", "r")
    assert "noise hid what age, sex, job (3 of 3 columns) hold" in told
    assert "inding the columns has spent epsilon" in told
    assert "that is kept in r/spent/1/ledger.json" in told
    kept = held(tmp_path / "r" / "spent" / "1" / "ledger.json")
    assert {one["is"] for one in kept["expenses"]} == {"Gaussian"}
    charged = tuple(Gaussian(one["what"], one["sigma"]) for one in kept["expenses"])
    assert f"epsilon {Ledger(charged, kept['delta'], 3000, kept['reserved']).epsilon():.4g}" in told
    status, _, err = run(capsys, "fit", data, *TINY, *SEEDED, "--out", "r")
    assert status == 0, err
    assert "an earlier run in this folder spent epsilon" in err


@pytest.mark.parametrize("data", ["drawn.npz", pytest.param("example:digits", marks=pytest.mark.slow)])
def test_private_pictures(data: str, blind: None, capsys: pytest.CaptureFixture[str]) -> None:
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
    exact = np.bincount(parts(asked_of(Run(folder)), seen)[0].given["label"], minlength=10) / n
    sigma = held(folder / "ledger.json")["expenses"][0]["sigma"]
    assert sum(shares) == pytest.approx(1)
    assert 0.2 * sigma < n * np.std(shares - exact) < 2 * sigma
    assert steps_in(folder) == 5
    assert true_epsilon(folder, 5) <= 8
    assert held(folder / "model.json")["modality"].get("levels", 255) == (16 if ":" in data else 255)
    before = (folder / "model.json").read_bytes()
    fit(capsys, "r", "--resume")
    assert (folder / "model.json").read_bytes() == before
    assert "loss" not in (folder / "metrics.jsonl").read_text()


OWN = """
from dataclasses import dataclass, replace
from feller.recipes import find_recipe
from feller.row_likelihood import RowLikelihood

def honest(data, size):
    assert len(data) == 300 and data.values[:, 0].bincount().max() < 150, "these are the rows themselves"
    return find_recipe("table", data, size)[1]

@dataclass(frozen=True)
class Centred(RowLikelihood):
    def loss(self, network, example):
        each = super().loss(network, example)
        return each - each.mean()

def spoiled(data, size):
    recipe = find_recipe("table", data, size)[1]
    return replace(recipe, objective=Centred(recipe.objective.space))
"""


@pytest.mark.slow
def test_code_of_ones_own_sees_random_rows_first(
    blind: None, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    write_table(tmp_path / "people.csv", change=dict.fromkeys(range(250), ("30", "F", "nurse")))
    (tmp_path / "own.py").write_text(OWN)
    fit(capsys, "r", *SEEDED, "--recipe", "own.py:honest")
    words = ("people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--recipe", "own.py:spoiled", "--out", "s")
    told = refused(capsys, *words)
    assert "refuses the recipe own.py:spoiled: with another row 1 the losses of other rows change" in told
    assert not pathlib.Path("s").exists()


@pytest.mark.slow
def test_a_schema_that_betrays_people_is_told_of(capsys: pytest.CaptureFixture[str], blind: None) -> None:
    odd = {**SCHEMA, "columns": {**SCHEMA["columns"], "age": {**SCHEMA["columns"]["age"], "edges": [20, 41.37, 60]}}}
    odd["columns"]["age"]["form"] = {"decimals": 2}
    pathlib.Path("schema.json").write_text(json.dumps(odd))
    status, _, err = run(capsys, "fit", "people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--out", "r")
    assert status == 0, err
    assert "column 'age' has 41.37 among its bounds and edges, which looks like a value of the data" in err
    assert "41.37" in held(pathlib.Path("r") / "recipe.json")["asked"]["notes"][0]


@pytest.mark.parametrize("clip", ["0.5", "adaptive"])
def test_clips(clip: str, capsys: pytest.CaptureFixture[str], blind: None) -> None:
    folder = fit(capsys, "r", *SEEDED, "--clip", clip)
    planned = held(folder / "recipe.json")["asked"]["private"]
    assert (planned["clip"], planned["adaptive"]) == ((0.5, False) if clip == "0.5" else (1.0, True))
    assert 3.99 < true_epsilon(folder, steps_in(folder)) <= 4


def test_wrong_clips(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--clip is a length such as 1, or adaptive, got 'much'" in refused(
        capsys, "people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--clip", "much"
    )
    assert "--clip must be above 0" in refused(
        capsys, "people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--clip", "0"
    )


@pytest.mark.slow
def test_counts_come_first_and_are_paid_for(capsys: pytest.CaptureFixture[str], blind: None) -> None:
    folder = fit(capsys, "r", *SEEDED, "--objective.counted", "0.5")
    spent = held(folder / "ledger.json")["expenses"]
    whats = [one["what"] for one in spent]
    assert whats == ["counts of each column", "choice of tables", "counts of the tables", "training"]
    assert sum(one["rho"] for one in spent[:3]) == pytest.approx(0.5 * rho_of(4.0, 1e-5), rel=0.01)
    numbers = promised(ledger_of(Run(folder)))
    assert 3.9 < numbers["epsilon"] <= 4
    kind = held(folder / "model.json")["modality"]
    assert kind["rows"] == held(folder / "ledger.json")["n"]
    assert {tuple(table["columns"]) for table in kind["told"]} >= {(0,), (1,), (2,)}
    status, _, err = run(capsys, "sample", folder, "-n", 50, "--out", "made.csv")
    assert status == 0, err
    assert main(["evaluate", str(folder), "--samples", "made.csv"]) == 0


def test_a_start_from_public_rows_is_not_taught_anew(capsys: pytest.CaptureFixture[str], blind: None) -> None:
    write_table(pathlib.Path("census.csv"), n=200, change={0: ("30", "M", "nurse")})
    status, _, err = run(capsys, "fit", "census.csv", "--schema", "schema.json", *TINY, "--out", "public")
    assert status == 0, err
    status, _, err = run(capsys, "fit", "people.csv", "--start-from", "public", "--steps", 8, *SEEDED, "--out", "r")
    assert status == 0, err
    assert "learning from rows of the counts" not in err
    assert held(pathlib.Path("r") / "model.json")["modality"]["told"] == []


@pytest.mark.slow
def test_counts_of_an_older_table_are_left_behind(capsys: pytest.CaptureFixture[str], blind: None) -> None:
    fit(capsys, "older", *SEEDED, "--objective.counted", "0.5")
    assert held(pathlib.Path("older/model.json"))["modality"]["told"]
    write_table(pathlib.Path("others.csv"), n=320, change=dict.fromkeys(range(300), ("30", "M", "nurse")))
    for words in ((), SEEDED):
        status, _, err = run(
            capsys, "fit", "others.csv", "--start-from", "older", "--steps", 8, *words, "--out", "r", "--overwrite"
        )
        assert status == 0, err
        kind = held(pathlib.Path("r/model.json"))["modality"]
        assert (kind["told"], kind["rows"]) == ([], 0)
        assert kind["shares"][1][1] > 0.8


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_learns_from_counts_goes_on(
    capsys: pytest.CaptureFixture[str], blind: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson, heard = rehearse.rehearse, []

    def killed(*args: Any, **others: Any) -> None:
        heard.append(len(heard))
        if len(heard) == 1:
            raise KeyboardInterrupt
        lesson(*args, **others)

    monkeypatch.setattr(rehearse, "rehearse", killed)
    asked = ("people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--out", "r")
    status, _, _ = run(capsys, "fit", *asked)
    assert status == 130
    spent = held(pathlib.Path("r/ledger.json"))["expenses"]
    assert [one["what"] for one in spent] == ["counts of each column", "choice of tables", "counts of the tables"]
    status, _, err = run(capsys, "fit", "--resume", "--out", "r")
    assert status == 0, err
    assert heard == [0, 1]
    after = held(pathlib.Path("r/ledger.json"))["expenses"]
    assert after[:3] == spent
    assert steps_in(pathlib.Path("r")) == 8


def test_plans_that_fail_are_refused_before_rows_are_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "Counting", None)
    start = ("people.csv", "--schema", "schema.json", "--size", "tiny")
    assert "a batch of 5,000 is more" in refused(capsys, *start, "--epsilon", 4, "--train.batch", 5000)
    assert "give --steps, not --minutes" in refused(capsys, *start, "--epsilon", 4, "--minutes", 1)
    assert "a single step spends more" in refused(capsys, *start, "--noise", 0.05, "--stop-at-epsilon", 2)
    asked = ("people.csv", "--recipe", "table-flow", "--size", "tiny", "--epsilon", 4)
    assert "give --schema" in refused(capsys, *asked)
    assert not pathlib.Path("runs").exists()
