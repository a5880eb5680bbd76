"""Metrics of a synthetic table with references, lost cells, copied rows."""

import math

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical
from feller.data.tables.encoding import encode
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import FreeText, HiddenColumn
from feller.evaluation.tables.cell_metrics import cell_loss, exact_row_fraction
from feller.evaluation.tables.copy_metrics import independent_columns_nll, shuffle_columns
from feller.evaluation.tables.table_quality import samples_quality, table_quality
from feller.evaluation.tables.utility import LEARNERS
from tests.errors import refuses
from tests.evaluation.known import KNOWN
from tests.evaluation.tables import COUNTS, ORDERED, people

TRAIN, UNSEEN = people(0, 1_500), people(1, 1_000)
NAMES = ("coin", "number", "kind", "answer")


def test_real_rows() -> None:
    numbers = table_quality(people(2, 1_500), TRAIN, UNSEEN, COUNTS, ordered=ORDERED, target=3, names=NAMES)
    assert set(numbers) <= KNOWN
    assert numbers["valid"] == 1
    assert numbers["told_column"] == NAMES[3]
    for size in (1, 2, 3):
        assert 0 < numbers[f"tv{size}"] < 3 * numbers[f"tv{size}_floor"]  # 1.4 times is expected: two draws, not one
        assert 0 < numbers[f"tv{size}_test"] < 3 * numbers[f"tv{size}_test_floor"]
        assert numbers[f"tv{size}_max"] >= numbers[f"tv{size}"]
    assert numbers["tv2"] < numbers["tv2_independent"] / 2
    assert numbers["tv1_independent"] == 0
    assert numbers["k_marginal"] == pytest.approx(1000 * (1 - numbers["tv2"]))
    assert numbers["column_shapes"] > 0.95
    for kind in ("boosted", "linear"):
        assert numbers[f"auc_{kind}"] == pytest.approx(numbers[f"auc_{kind}_real"], abs=0.02)
        assert numbers[f"accuracy_{kind}"] > numbers["accuracy_majority"] + 0.2
    assert numbers["copies"] == pytest.approx(
        numbers["copies_held_out"], abs=0.02
    )  # 60 possible rows: nearly all are met
    assert numbers["dcr_share"] == pytest.approx(0.5, abs=0.03)
    assert numbers["membership_auc"] == pytest.approx(0.5, abs=0.03)


def test_shuffled_columns() -> None:
    numbers = table_quality(
        shuffle_columns(TRAIN, Rng(9)), TRAIN, UNSEEN, COUNTS, ordered=ORDERED, target=3, names=NAMES
    )
    assert numbers["tv1"] == 0
    assert numbers["tv2"] == pytest.approx(numbers["tv2_independent"], rel=0.2)
    assert numbers["tv2_worst"] == "number × answer"
    assert numbers["auc_linear"] < numbers["auc_linear_real"] - 0.1
    assert numbers["pair_trends"] < numbers["pair_trends_floor"]


def test_numbers_depend_on_the_seed() -> None:
    first, second, other = (table_quality(people(2, 300), TRAIN, UNSEEN, COUNTS, rng=Rng(seed)) for seed in (0, 0, 1))
    assert first == second
    assert first != other
    assert first["tv2"] == other["tv2"]
    assert not any("boosted" in name for name in first)


def test_codes_outside_the_schema_are_invalid() -> None:
    """A tenth of the rows has a value that no real row has: its column is off by so much, and nothing breaks."""
    wrong = people(0, 1_500)
    wrong[:100, 2], wrong[100:150, 2] = 7, -1
    numbers = table_quality(wrong, TRAIN, UNSEEN, COUNTS, ordered=ORDERED, target=3, names=NAMES)
    assert numbers["valid"] == pytest.approx(0.9)
    assert numbers["tv1"] == pytest.approx(0.1 / 4)
    assert numbers["tv1_max"] == pytest.approx(0.1)
    assert numbers["tv1_worst"] == "kind"
    assert numbers["copies"] == pytest.approx(0.9)
    assert numbers["auc_boosted"] is not None


def test_targets_outside_the_schema_are_ignored() -> None:
    """Models are learned from the other rows, the last nine tenths, to tell a number or two classes with an order."""
    good, wrong = people(0, 1_000), people(0, 1_000)
    for target, column in ((1, "mae_linear"), (3, "f1_linear")):
        wrong[:100, target] = 9
        numbers, rest = (
            table_quality(made, TRAIN, UNSEEN, COUNTS, ordered=(False, True, False, True), target=target)
            for made in (wrong, good[100:])
        )
        assert numbers[column] == pytest.approx(rest[column], rel=1e-3)
        wrong[:100, target] = good[:100, target]


def test_valid_fraction_with_rules() -> None:
    rule = table_quality(TRAIN, TRAIN, UNSEEN, COUNTS, rules=lambda codes: codes[:, 0] == 0)["valid"]
    assert rule == pytest.approx((TRAIN[:, 0] == 0).double().mean().item())


def test_no_held_out_rows() -> None:
    """Models are tested on the training table, and what needs unseen people is left open."""
    numbers = table_quality(people(2, 500), TRAIN, UNSEEN[:0], COUNTS, ordered=ORDERED, target=3)
    assert set(numbers) <= KNOWN
    missing = {name for name, value in numbers.items() if value is None}
    assert missing == {
        *(f"tv{size}_test{of}" for size in (1, 2, 3) for of in ("", "_floor")),
        *(f"{name}_{kind}_real" for name in ("auc", "accuracy", "f1") for kind in LEARNERS),
        *("copies_held_out", "dcr_share", "dcr_share_copied", "membership_auc", "membership_auc_copied"),
        *("correlation_difference", "correlation_difference_floor"),
    }
    assert numbers["accuracy_boosted"] > 0.8
    assert set(numbers) == set(table_quality(people(2, 500), TRAIN, UNSEEN, COUNTS, ordered=ORDERED, target=3))


@pytest.mark.parametrize("columns", [1, 2])
def test_few_columns(columns: int) -> None:
    tables = (table[:, :columns] for table in (people(2, 300), TRAIN, UNSEEN))
    numbers = table_quality(*tables, COUNTS[:columns], ordered=ORDERED[:columns], target=0)
    assert numbers["tv3"] is None
    assert (numbers["tv2"] is None) == (columns == 1)
    assert (numbers["k_marginal"] is None) == (columns == 1)
    if columns == 1:
        assert numbers["auc_linear"] is numbers["auc_boosted_real"] is None  # nothing to tell it from
    else:
        assert numbers["auc_linear"] == pytest.approx(numbers["auc_linear_real"], abs=0.05)
    assert set(numbers) <= KNOWN


def test_numeric_target() -> None:
    numbers = table_quality(people(2, 1_500), TRAIN, UNSEEN, COUNTS, ordered=ORDERED, target=1)
    assert set(numbers) <= KNOWN
    assert numbers["r2_boosted"] == pytest.approx(numbers["r2_boosted_real"], abs=0.05)
    assert numbers["mae_linear"] < numbers["mae_mean"]


def test_target_with_one_class() -> None:
    alike = people(2, 300)
    alike[:, 3] = 0
    numbers = table_quality(alike, TRAIN, UNSEEN, COUNTS, ordered=ORDERED, target=3)
    assert numbers["auc_boosted"] is numbers["accuracy_linear"] is None
    assert numbers["auc_boosted_real"] > 0.8


def test_invalid_tables() -> None:
    with refuses(InputError, found="0 and 1500"):
        table_quality(TRAIN[:0], TRAIN, UNSEEN, COUNTS)
    with refuses(UsageError, found="4, 4 and 4 entries"):
        table_quality(TRAIN[:, :3], TRAIN, UNSEEN, COUNTS)
    with refuses(UsageError, found="4, 2 and 4 entries"):
        table_quality(TRAIN, TRAIN, UNSEEN, COUNTS, ordered=(True, False))
    with refuses(UsageError):
        table_quality(TRAIN, TRAIN, UNSEEN + 1, COUNTS)
    with refuses(UsageError, found="9"):
        table_quality(TRAIN, TRAIN, UNSEEN, COUNTS, target=9)


WORD = Categorical("word", ("x", "y"), None, "", ("?",))
AGE = Numerical("age", 0.0, 40.0, (20.0,))
REAL = RawTable(
    np.array([["x", "10", "s"], ["z", "70", "s"], ["w", "90", ""], ["?", "30", "s"]], dtype=object),
    columns=("word", "age", "hidden"),
)


def test_cell_loss() -> None:
    """Of eight learned cells one is empty as written; two words and two numbers are clipped, two of them to empty."""
    schema = Schema((WORD, AGE, HiddenColumn("hidden")), "clip")
    codes = encode(REAL, schema).codes  # real rows as they are read: a perfect sample of what is left of them
    assert cell_loss(codes, REAL, schema) == {
        "empty": 3 / 8,
        "empty_real": 1 / 8,
        "clipped": 4 / 8,
        "clipped_max": 2 / 4,
        "clipped_worst": "word",
        "merged": 0.0,
        "cells_real": 8,
        "left_out": "hidden",
    }


def test_cell_loss_without_missing_values() -> None:
    schema = Schema((WORD, AGE), "clip")
    real = RawTable(REAL.values.select(["word", "age"]), columns=("word", "age"))
    found = cell_loss(torch.tensor([[0, 1], [1, 1]]), real, schema)
    assert found["empty"] == 0


def test_cell_loss_with_refusing_schema() -> None:
    schema = Schema((WORD, AGE), "refuse")
    assert cell_loss(torch.tensor([[0, 1]]), REAL, schema) == {}
    assert cell_loss(torch.tensor([[0, 1]]), None, Schema((WORD, AGE, HiddenColumn("hidden")), "clip")) == {
        "left_out": "hidden"
    }


def test_cell_loss_of_merged_values() -> None:
    """Of eight cells two words are not listed; neither a missing one nor the word for all others counts."""
    schema = Schema((Categorical("word", ("x",), "OTHER", "", ("?",)), AGE, HiddenColumn("hidden")), "clip")
    found = cell_loss(torch.tensor([[0, 1]]), REAL, schema)
    assert found["merged"] == 2 / 8


SCHEMA = Schema((Categorical("word", ("x", "y")), Numerical("age", 0.0, 40.0, (20.0,)), FreeText("note")))


def table(*rows: tuple[str, str, str]) -> RawTable:
    return RawTable(np.array(rows, dtype=object), columns=("word", "age", "note"))


def test_exact_row_fraction() -> None:
    real = table(("x", "10", "a"), ("y", "30", "b"))
    made = table(("x", "11", ""), ("x", "30", ""), ("y", "30.0", ""), ("y", "10", ""))
    assert exact_row_fraction(made, real, SCHEMA) == pytest.approx(1 / 4)


def test_exact_row_fraction_with_columns_in_another_order() -> None:
    real = RawTable(np.array([["30", "", "y"]], dtype=object), columns=("age", "note", "word"))
    assert exact_row_fraction(table(("y", "30", "other")), real, SCHEMA) == 1.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("3", "+3.0", True),
        ("0.50", ".5", True),
        ("-0.0", "0", True),
        ("1e3", "1000", True),
        ("-2.50", "-2.5", True),
        ("1.2E-2", "0.012", True),
        ("-2", "2", False),
        ("30", "3", False),
        ("-", "0", False),
        ("1e3", "1e2", False),
    ],
)
def test_exact_row_fraction_compares_numbers_by_value(one: str, other: str, same: bool) -> None:
    assert exact_row_fraction(table(("x", one, "")), table(("x", other, "")), SCHEMA) == float(same)


def test_exact_row_fraction_compares_whole_rows() -> None:
    """Each cell stands in its column of the real table, but no two of them together."""
    real = RawTable(
        np.array([[str(i), str(i % 7), ""] for i in range(50)], dtype=object), columns=("word", "age", "note")
    )
    made = RawTable(np.array([[str(i), str((i + 1) % 7), ""] for i in range(50)], dtype=object), columns=real.columns)
    assert exact_row_fraction(made, real, SCHEMA) == 0.0
    assert exact_row_fraction(real, real, SCHEMA) == 1.0


COLUMNS = (Categorical("kind", ("a", "b", "c")), Numerical("pay", 0.0, 9.0, edges=(4.0,), digits=True))


def rows(n: int, seed: int) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    kind = generator.integers(0, 3, n)
    return torch.from_numpy(np.stack([kind, np.where(kind == 0, 1, generator.integers(0, 10, n))], 1))


def test_independent_columns_nll() -> None:
    table = Table(Schema(COLUMNS))
    learned, unseen = torch.tensor([[0, 3], [0, 4], [1, 9], [0, 5]]), torch.tensor([[0, 0], [2, 7]])
    kinds = (math.log(4 / 7), math.log(1 / 7))
    pays = (math.log(2 / 6 / 4), math.log(4 / 6 / 6))
    found = independent_columns_nll(learned, unseen, table.to_levels, table.counts)
    assert found == pytest.approx(-(sum(kinds) + sum(pays)) / 2, abs=1e-12)


def test_independent_columns_nll_is_normalised() -> None:
    table, learned = Table(Schema(COLUMNS)), rows(200, 0)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(10))
    alone = [independent_columns_nll(learned, row[None], table.to_levels, table.counts) for row in every]
    assert sum(map(math.exp, (-one for one in alone))) == pytest.approx(1, abs=1e-12)


def test_target_of_the_schema() -> None:
    found = {}
    for target in ("kind", "pay"):
        table = Table(Schema(COLUMNS, target=target))
        made, learned, unseen = (Dataset(rows(300, seed), {}, table) for seed in range(3))
        found[target] = samples_quality(made, learned, unseen, Rng(0))
    assert "auc_boosted" in found["kind"]
    assert found["kind"]["nll_baseline"] == found["pay"]["nll_baseline"]
    assert found["kind"]["nll_baseline"] == pytest.approx(math.log(3) + math.log(10), abs=0.3)
    nobody = Dataset(rows(0, 0), {}, table)
    assert samples_quality(made, learned, nobody, Rng(0))["nll_baseline"] is None
