"""Imputation of histories: exact conditional distribution, observed cells, order of rows, best guesses, errors."""

import itertools
import pathlib

import numpy as np
import pandas as pd
import pytest

import feller
from feller.app.cli import main
from feller.core.errors import InputError, UsageError
from tests.data.tables.test_histories import visits
from tests.errors import refuses
from tests.networks.checks import perturb_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("imputation")


@pytest.fixture(scope="module")
def run(folder: pathlib.Path) -> feller.FittedRun:
    return feller.fit(
        visits(150), person="patient", order="date", size="tiny", steps=20, out=str(folder / "run"), report=False
    )


@pytest.fixture(scope="module")
def masked() -> pd.DataFrame:
    table = visits(40, seed=7)
    rng = np.random.default_rng(0)
    for name in ("sex", "date", "ward", "shift", "pressure"):
        table[name] = table[name].where(rng.random(len(table)) > 0.3)
    return _sorted_where_incomplete(table)


def _sorted_where_incomplete(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which the observed dates of each person ascend."""
    table = table.copy()
    for _, group in table.groupby("patient"):
        dates = group.date.dropna()
        table.loc[dates.index, "date"] = np.sort(dates.to_numpy())
    return table


def test_completed_cells_follow_the_conditional_distribution(folder: pathlib.Path) -> None:
    """Total variation of 1,000 completions from 6 possible ones: 0.03 expected, above 0.09 with probability < 1e-6.

    The first ward and the sex are unobserved, and follow from the second ward by Bayes' rule.
    """
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "who": np.repeat(np.arange(60), 2)[:-9],
        "sex": np.repeat(rng.choice(["F", "M"], 60), 2)[:-9],
        "ward": rng.choice(["A", "B", "C"], 111),
    })  # fmt: skip
    run = feller.fit(table, person="who", size="tiny", steps=2, out=str(folder / "small"), report=False)
    perturb_weights(run.model.network, 0.4)
    possible = [*itertools.product("FM", "ABC")]
    joint = np.array([_probs(run, [(sex, first, second) for sex, first in possible]) for second in "ABC"])
    probs = joint[1] / joint[1].sum()
    assert np.abs(joint.sum(0) / joint.sum() - probs).sum() / 2 > 0.15  # the second ward matters
    n = 1000
    partial = pd.DataFrame({
        "who": np.repeat(np.arange(n), 2), "sex": np.nan, "ward": np.tile(np.array([None, "B"], dtype=object), n)
    })  # fmt: skip
    completed = run.impute(partial, seed=1)
    assert isinstance(completed, pd.DataFrame)
    assert (completed.ward[1::2] == "B").all()
    assert (completed.groupby("who").sex.nunique() == 1).all()
    found = [*zip(completed.sex[::2], completed.ward[::2], strict=True)]
    shares = np.array([found.count(pair) for pair in possible]) / n
    assert np.abs(shares - probs).sum() / 2 < 0.09


def _probs(run: feller.FittedRun, histories: list[tuple[str, str, str]]) -> np.ndarray:
    """Return the probabilities of histories of two rows: sex, first and second ward."""
    rows = [(i, sex, ward) for i, (sex, *wards) in enumerate(histories) for ward in wards]
    return np.exp(run.log_prob(pd.DataFrame(rows, columns=["who", "sex", "ward"])))


def test_observed_cells_and_rows_stay(run: feller.FittedRun, masked: pd.DataFrame) -> None:
    completed = run.impute(masked, seed=3)
    assert isinstance(completed, pd.DataFrame)
    assert not completed.isna().any().any()
    assert completed.index.equals(masked.index)
    for name in masked.columns:
        known = masked[name].notna()
        assert known.mean() > 0.5
        assert (completed[name][known] == masked[name][known]).all(), name
    assert (completed.groupby("patient").sex.nunique() == 1).all()
    for _, group in completed.groupby("patient"):
        if masked.loc[group.index, "date"].isna().any():
            assert group.date.is_monotonic_increasing


def test_complete_tables_stay(run: feller.FittedRun, folder: pathlib.Path) -> None:
    visits(30, seed=4).to_csv(folder / "whole.csv", index=False)
    assert (
        main(
            ["sample", str(folder / "run"), "--complete", str(folder / "whole.csv"), "--out", str(folder / "same.csv")]
        )
        == 0
    )
    assert (folder / "same.csv").read_text() == (folder / "whole.csv").read_text()


def test_persons_do_not_depend_on_others(run: feller.FittedRun, masked: pd.DataFrame) -> None:
    people = list(dict.fromkeys(masked.patient))
    first = masked[masked.patient.isin(people[:5])]
    alone, together = run.impute(first, seed=2), run.impute(masked, seed=2)
    assert isinstance(together, pd.DataFrame)
    pd.testing.assert_frame_equal(alone, together.loc[first.index])


def test_best_guesses_and_several_imputations(run: feller.FittedRun, masked: pd.DataFrame) -> None:
    few = masked[masked.patient.isin(list(dict.fromkeys(masked.patient))[:4])]
    best = run.impute(few, strategy="best")
    assert isinstance(best, pd.DataFrame)
    assert not best.isna().any().any()
    several = run.impute(few, m=3)
    assert len(several) == 3
    assert not several[0].equals(several[1])
    with refuses(UsageError, argument="m"):
        run.impute(few, m=2, strategy="mean")


def test_command_line(run: feller.FittedRun, masked: pd.DataFrame, folder: pathlib.Path) -> None:
    partial, out = folder / "partial.csv", folder / "filled.csv"
    masked.to_csv(partial, index=False)
    sample = ["sample", str(folder / "run"), "--complete", str(partial), "--seed", "1"]
    assert main([*sample, "--out", str(out)]) == 0
    filled = pd.read_csv(out)
    assert filled.patient.tolist() == masked.patient.tolist()
    assert not filled.isna().any().any()
    assert main([*sample, "--imputations", "2", "--out", str(folder / "several.csv")]) == 0
    assert pd.read_csv(folder / "several-1.csv").equals(filled)
    assert not pd.read_csv(folder / "several-2.csv").equals(filled)
    assert main([*sample, "--shard-size", "15", "--out", str(folder / "parts" / "p.csv")]) == 0
    parts = pd.concat([pd.read_csv(path) for path in sorted((folder / "parts").glob("p-*.csv"))])
    assert sorted(parts.astype(str).agg("|".join, axis=1)) == sorted(filled.astype(str).agg("|".join, axis=1))


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"patient": "person"}, {"argument": "person"}),
        ({"sex": ["F", "M"]}, {"row": 2, "column": "sex"}),
        ({"date": ["2020-03-01", None, "2020-02-01"]}, {"row": 3, "column": "date"}),
        ({"date": ["2020-03-01", "soon", "2020-04-01"]}, {"row": 2, "column": "date"}),
        ({"patient": ["Q"] * 6}, {"row": 6, "column": "patient"}),
        ({"patient": ["Q", None, "Q"]}, {"row": 2, "column": "patient"}),
    ],
)
def test_wrong_tables_are_located(
    run: feller.FittedRun, folder: pathlib.Path, changes: dict[str, object], fields: dict[str, object]
) -> None:
    rows = max(len(cells) for cells in changes.values()) if "person" not in changes.values() else 3
    content: dict[str, object] = {"patient": ["Q"] * rows, "sex": [None] * rows, "date": [None] * rows}
    content["ward"] = ["A"] * rows
    if changes == {"patient": "person"}:
        content["person"] = content.pop("patient")
    else:
        content |= {name: [*cells, *[None] * (rows - len(cells))] for name, cells in changes.items()}  # type: ignore[misc]
    table = pd.DataFrame(content)
    with refuses(InputError, **fields) as error:
        run.impute(table)
    if fields.get("row") in (3, 6) or "sex" in changes:
        assert "patient 'Q'" in str(error.value)


def test_cells_that_break_rules_together_are_located(folder: pathlib.Path) -> None:
    table = visits(60)
    table = table[(table.ward != "A") | (table["shift"] == "day")]
    schema = feller.infer_schema(table, person="patient", order="date")
    rule = {"if": {"ward": ["A"]}, "then": {"shift": ["day"]}}
    ruled = {**schema, "rules": [rule]}
    run = feller.fit(table, schema=ruled, size="tiny", steps=3, out=str(folder / "ruled"), report=False)
    n = 40
    partial = pd.DataFrame({"patient": np.arange(n), "shift": ["night"] * n, "ward": [None] * n})
    completed = run.impute(partial)
    assert isinstance(completed, pd.DataFrame)
    assert (completed.ward == "B").all()
    with refuses(InputError, row=3):
        run.impute(partial.assign(ward=[None, None, "A", *[None] * (n - 3)]))
