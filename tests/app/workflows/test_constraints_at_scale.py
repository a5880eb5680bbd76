"""A million sampled rows satisfy every constraint of their schema."""

import numpy as np
import pandas as pd
import pytest

from feller import open_run
from feller.app.config import FitConfig, SampleConfig
from feller.app.options import config_of
from feller.app.workflows.fit import fit
from feller.app.workflows.sample import sample

COUNTRIES = {"Paris": "France", "Lyon": "France", "Rome": "Italy", "Milan": "Italy", "Berlin": "Germany"}
EDGES = [*range(40, 240, 10)]
SCHEMA = {
    "outside": "clip",
    "columns": {
        "person": {"kind": "identifier", "format": "P{#}"},
        "age": {"kind": "numerical", "low": 0, "high": 100, "edges": [18, 30, 45, 60, 75]},
        "married": {"kind": "boolean", "true": "yes", "false": "no"},
        "admitted": {"kind": "datetime", "first": "2020-01-01", "last": "2024-12-31", "bins": 20},
        "discharged": {"kind": "gap", "after": "admitted", "unit": "days", "high": 90, "format": "%Y-%m-%d"},
        "diastolic": {"kind": "numerical", "low": 30, "high": 240, "edges": EDGES, "missing": ""},
        "systolic": {"kind": "numerical", "low": 30, "high": 240, "edges": EDGES, "missing": ""},
        "drugs": {"kind": "numerical", "low": 0, "high": 5000},
        "room": {"kind": "numerical", "low": 0, "high": 20000},
        "bill": {"kind": "sum", "parts": ["drugs", "room"]},
        "invoice": {"kind": "copy", "source": "bill"},
        "city": {"kind": "categorical", "values": [*COUNTRIES]},
        "country": {"kind": "categorical", "values": ["France", "Italy", "Germany"]},
    },
    "rules": [
        {"if": {"age": ["< 18"]}, "then": {"married": ["no"]}},
        {"order": ["diastolic", "systolic"]},
        {"missing_together": ["diastolic", "systolic"]},
        {"combination": ["city", "country"], "values": [[*pair] for pair in COUNTRIES.items()]},
        {"unique": "person"},
    ],
    "target": "married",
}


def patients(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    age, stay = rng.integers(0, 95, n), rng.geometric(0.2, n) - 1
    admitted = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, n), unit="D")
    low = rng.normal(75, 10, n).round().clip(30, 140)
    high = np.maximum((low + rng.gamma(4, 10, n)).round().clip(40, 240), low)
    is_missing = rng.random(n) < 0.1
    drugs, room = rng.gamma(2, 200, n).astype(int).clip(max=5000), 100 * stay + 50
    city = pd.Series(rng.choice([*COUNTRIES], n))
    return pd.DataFrame(
        {
            "person": [f"P{i}" for i in range(n)],
            "age": age,
            "married": np.where(age < 18, "no", rng.choice(["yes", "no"], n)),
            "admitted": admitted.strftime("%Y-%m-%d"),
            "discharged": (admitted + pd.to_timedelta(stay, unit="D")).strftime("%Y-%m-%d"),
            "diastolic": pd.array(np.where(is_missing, None, low), dtype="Int64"),
            "systolic": pd.array(np.where(is_missing, None, high), dtype="Int64"),
            "drugs": drugs,
            "room": room,
            "bill": drugs + room,
            "invoice": drugs + room,
            "city": city,
            "country": city.map(COUNTRIES),
        }
    )


def violations(rows: pd.DataFrame) -> dict[str, int]:
    """Count the rows that violate each constraint."""
    admitted, discharged = pd.to_datetime(rows.admitted), pd.to_datetime(rows.discharged)
    days = (discharged - admitted).dt.days
    masks = {
        "married": (rows.age < 18) & (rows.married == "yes"),
        "order": (rows.diastolic > rows.systolic).fillna(False),
        "missing_together": rows.diastolic.isna() != rows.systolic.isna(),
        "gap": ~days.between(0, 90),
        "sum": rows.drugs + rows.room != rows.bill,
        "copy": rows.invoice != rows.bill,
        "combination": rows.city.astype(str).map(COUNTRIES) != rows.country.astype(str),
        "unique": rows.person.duplicated(),
    }
    return {name: int(mask.sum()) for name, mask in masks.items()}


@pytest.mark.parametrize("n", [5_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_no_row_violates_a_constraint(tmp_path, n):
    table = patients(5000)
    assert not any(violations(table).values())
    run, _ = fit(
        config_of(
            FitConfig, epsilon=3.0, schema=SCHEMA, recipe="table-marginals", report="none", out=str(tmp_path / "run")
        ),
        table,
    )
    out = str(tmp_path / "rows.parquet")
    sample(open_run(run.path), config_of(SampleConfig, n=n, out=out), keeps_samples=False)
    rows = pd.read_parquet(out)
    assert len(rows) == n
    assert violations(rows) == dict.fromkeys(violations(table), 0)
    assert rows.diastolic.isna().mean() == pytest.approx(0.1, abs=0.05)
