"""Facts that hold in a real table, and rows that break them."""

import numpy as np
import pytest

from feller.core.rng import Rng
from feller.data.loading.raw import RawTable
from feller.data.tables.dependent_columns import Copy, Gap
from feller.data.tables.relations import with_relations
from feller.data.tables.schema_detection import detect_schema
from feller.evaluation.tables.structure import Structure, compare_structure

N = 4_000
NAMES = ("start", "end", "again", "low", "high", "sbp", "dbp", "step", "kind", "group")


def stays(seed: int, n: int = N) -> np.ndarray:
    """Visits with an order of dates and of numbers, a copy, cells missing together, steps, and impossible pairs."""
    rng = np.random.default_rng(seed)
    start = np.datetime64("2020-01-01") + rng.integers(0, 700, n)
    end = start + rng.integers(0, 30, n)
    low = rng.integers(0, 1000, n)
    high = low + rng.integers(0, 300, n)
    gone = rng.random(n) < 0.2
    sbp, dbp = (np.where(gone, "", rng.integers(a, a + 60, n).astype(str)) for a in (90, 50))
    step = rng.choice(["0", "0.2", "0.4", "0.6"], n)
    kind = rng.choice(["child", "adult"], n)
    group = np.where(kind == "child", "school", rng.choice(["work", "none"], n))
    columns = (start, end, start, low, high, sbp, dbp, step, kind, group)
    return np.stack([np.asarray(column).astype(str) for column in columns], 1)


def shuffled(cells: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(cells[:, j]) for j in range(cells.shape[1])], 1)


def compare(made: np.ndarray, real: np.ndarray) -> Structure:
    table = RawTable(real.astype(object), columns=NAMES)
    found = compare_structure(RawTable(made.astype(object), columns=NAMES), table, detect_schema(table), Rng(0))
    assert found is not None
    return found


def test_real_rows_are_possible() -> None:
    found = compare(stays(1), stays(0))
    assert found.impossible == pytest.approx(found.impossible_real, abs=0.005)
    assert found.impossible < 0.01
    kinds = {(fact.kind, fact.columns) for fact in found.facts}
    assert {
        ("order", ("start", "end")),
        ("equal", ("start", "again")),
        ("order", ("low", "high")),
        ("missing together", ("sbp", "dbp")),
        ("values", ("step",)),
        ("combination", ("kind", "group")),
        ("never empty", ("start",)),
    } <= kinds
    assert ("order", ("again", "start")) not in kinds
    assert not any(fact.kind == "combination" and "step" in fact.columns for fact in found.facts)


def test_independent_columns_break_the_facts() -> None:
    """The shares are those that independence implies: measured and computed ones agree."""
    found = compare(shuffled(stays(1), 2), stays(0))
    shares = {fact.columns: fact for fact in found.facts if fact.kind in ("order", "missing together", "combination")}
    for columns in (("start", "end"), ("low", "high"), ("sbp", "dbp"), ("kind", "group")):
        assert shares[columns].synthetic == pytest.approx(shares[columns].independent, abs=0.03)
    assert shares["sbp", "dbp"].synthetic == pytest.approx(2 * 0.2 * 0.8, abs=0.03)
    assert shares["kind", "group"].synthetic == pytest.approx(0.5, abs=0.03)
    equal = next(fact for fact in found.facts if fact.kind == "equal")
    assert equal.synthetic == pytest.approx(1 - 1 / 700, abs=0.01)
    assert found.impossible > 0.99
    assert found.facts[0] is equal


def test_single_defects() -> None:
    made = stays(1)
    made[: N // 10, 7] = "0.3"
    made[: N // 4, 0] = ""
    found = compare(made, stays(0))
    shares = {(fact.kind, fact.columns): fact.synthetic for fact in found.facts}
    assert shares["values", ("step",)] == pytest.approx(0.1)
    assert shares["never empty", ("start",)] == pytest.approx(0.25)
    assert shares["equal", ("start", "again")] == pytest.approx(0.25)
    assert found.impossible == pytest.approx(0.25, abs=0.01)


def test_an_order_may_have_exceptions() -> None:
    real = stays(0)
    real[: N // 50, 1] = "2019-01-01"
    fact = next(fact for fact in compare(stays(1), real).facts if fact.columns == ("start", "end"))
    assert fact.real == pytest.approx(0.02, abs=0.006)
    assert fact.synthetic == 0


def test_a_tendency_is_not_a_fact() -> None:
    """Real rows that break an order by 3 %, where independent columns break it by 10 %, are possible."""
    rng = np.random.default_rng(0)
    small = rng.normal(0, 1, N)
    large = 1.8 + 0.5 * small + rng.normal(0, 0.8, N)
    real = np.stack([small, large], 1).round(3)
    table = RawTable(real.astype(str).astype(object), columns=("small", "large"))
    found = compare_structure(table, table, detect_schema(table), Rng(0))
    assert 0.02 < (small > large).mean() < 0.04
    assert 0.08 < (small > rng.permutation(large)).mean() < 0.12
    assert found is not None
    assert not any(fact.kind == "order" for fact in found.facts)


def test_too_few_rows() -> None:
    table = RawTable(stays(0, 50).astype(object), columns=NAMES)
    assert compare_structure(table, table, detect_schema(table), Rng(0)) is None


def test_values_on_a_grid() -> None:
    """Whole numbers of a range may have gaps; the codes 0, 1 and 10 may not."""
    rng = np.random.default_rng(0)
    ages = rng.choice([*range(18, 50), *range(51, 60)], N)
    codes = rng.choice([0, 1, 10], N)
    real, made = (np.stack([a.astype(str), c.astype(str)], 1) for a, c in ((ages, codes), (ages.copy(), codes.copy())))
    made[:400, 0], made[:40, 0], made[:200, 1] = "50", "90", "5"
    table, other = (RawTable(cells.astype(object), columns=("age", "code")) for cells in (real, made))
    found = compare_structure(other, table, detect_schema(table), Rng(0))
    assert found is not None
    assert {fact.columns[0]: fact.synthetic for fact in found.facts if fact.kind == "values"} == {
        "age": pytest.approx(0.01),
        "code": pytest.approx(0.05),
    }


def test_columns_that_depend_on_others() -> None:
    """Copies and gaps of the schema are read like the columns that they replace: the same facts are found."""
    real = RawTable(stays(0).astype(object), columns=NAMES)
    plain, dependent = detect_schema(real), with_relations(real, detect_schema(real))
    assert any(isinstance(column, Copy) for column in dependent.columns)
    assert any(isinstance(column, Gap) for column in dependent.columns)
    made = RawTable(shuffled(stays(1), 2).astype(object), columns=NAMES)
    found = [compare_structure(made, real, schema, Rng(0)) for schema in (plain, dependent)]
    shares = [{fact.text: fact.synthetic for fact in it.facts} for it in found if it is not None]
    assert shares[0] == shares[1]
