"""Private search for relations: sensitivity, cost, planted relations that are found, and independent columns."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from feller.data.loading.raw import RawTable
from feller.data.tables.dataframes import from_frame
from feller.data.tables.dependent_columns import Copy, Sum
from feller.data.tables.encoding import encode
from feller.data.tables.private_relations import (
    DETECTABLE,
    MAX_CANDIDATES,
    RelationSearchResult,
    outcomes_of,
    plan_relations,
    search_relations,
)
from feller.data.tables.private_schema_search import search_schema
from feller.data.tables.relation_candidates import PairCandidate, relation_candidates
from feller.data.tables.rules import MissingTogether, Order
from feller.privacy.accounting.zcdp import rho_from_epsilon
from feller.privacy.noise.grid_noise import SeededNoise


class Recorded:
    """Noise source that records exact counts, and adds the same noise to each call."""

    def __init__(self) -> None:
        self.exact: list[torch.Tensor] = []

    def add_gaussian(self, values: torch.Tensor, scale: float) -> torch.Tensor:
        self.exact.append(values.clone())
        return values + scale * torch.randn(
            values.shape, dtype=values.dtype, generator=torch.Generator().manual_seed(len(self.exact))
        )


def stays(n: int, seed: int = 0, exceptions: float = 0.0) -> pd.DataFrame:
    """Stays with an order of dates, a copied date, sums, and two numbers that are missing together."""
    rng = np.random.default_rng(seed)
    begin = pd.Timestamp("2012-01-01") + pd.to_timedelta(rng.integers(0, 1400, n), "D")
    days = rng.integers(0, 400, n)
    days = np.where(rng.random(n) < exceptions, -days, days)
    sbp, gap, missing = rng.integers(90, 200, n), rng.integers(0, 90, n), rng.random(n) < 0.3
    food, rent = rng.integers(0, 400, n), rng.integers(100, 900, n)
    return pd.DataFrame(
        {
            "stay_begin": begin.strftime("%Y-%m-%d"),
            "stay_end": (begin + pd.to_timedelta(days, "D")).strftime("%Y-%m-%d"),
            "sbp": np.where(missing, "", sbp.astype(str)),
            "weight": np.where(missing, "", gap.astype(str)),
            "food": food.astype(str),
            "rent": rent.astype(str),
            "total": (food + rent).astype(str),
            "copied_stay_begin": begin.strftime("%Y-%m-%d"),
            "sex": rng.choice(["m", "f"], n),
        }
    )


def independent(n: int, seed: int) -> pd.DataFrame:
    table = stays(n, seed)
    rng = np.random.default_rng(1000 + seed)
    return pd.DataFrame({name: table[name].to_numpy()[rng.permutation(n)] for name in table})


def found_in(table: pd.DataFrame, epsilon: float, seed: int) -> RelationSearchResult:
    raw, _n = from_frame(table), len(table)
    rho = rho_from_epsilon(epsilon, 1e-5)
    sigma = math.sqrt(4 * len(raw.columns) / (0.2 * rho))
    schema = search_schema(raw, sigma, 1e-6, SeededNoise(seed, "columns")).schema
    return search_relations(raw, schema, 0.05 * rho, SeededNoise(seed, "relations"))


@pytest.mark.parametrize(("epsilon", "n"), [(1.0, 6000), (3.0, 4000)])
def test_planted_relations_are_found(epsilon: float, n: int) -> None:
    schema = found_in(stays(n), epsilon, 1).schema
    assert schema.by_name["copied_stay_begin"] == Copy("copied_stay_begin", "stay_begin")
    assert Order("stay_begin", "stay_end") in schema.rules
    assert MissingTogether(("sbp", "weight")) in schema.rules
    total = schema.by_name["total"]
    assert isinstance(total, Sum)
    assert {*total.parts} == {"food", "rent"}


def test_no_relations_between_independent_columns() -> None:
    for seed in range(12):
        schema = found_in(independent(3000, seed), 3.0 if seed % 2 else 1.0, seed).schema
        assert schema.rules == ()
        assert not any(isinstance(column, Copy | Sum) for column in schema.columns)


def test_one_row_changes_answers_by_at_most_the_sensitivity() -> None:
    table = stays(400, 3)
    raw = from_frame(table)
    schema = search_schema(raw, 2.0, 1e-6, SeededNoise(0, "columns")).schema
    candidates = relation_candidates(schema)
    full = [np.bincount(*outcomes_of(raw, schema, c)[:1], minlength=outcomes_of(raw, schema, c)[1]) for c in candidates]
    rng = np.random.default_rng(0)
    for row in rng.integers(0, len(table), 10):
        odd = table.drop(index=row).reset_index(drop=True)
        if row % 2:  # a strange row instead of one less
            odd = pd.concat([table, pd.DataFrame([dict.fromkeys(table, f"odd {row}")])], ignore_index=True)
        neighbour = from_frame(odd)
        moved = 0.0
        for candidate, counts in zip(candidates, full, strict=True):
            outcomes, size = outcomes_of(neighbour, schema, candidate)
            change = np.abs(np.bincount(outcomes, minlength=size) - counts)
            assert change.sum() == 1
            moved += float((change**2).sum())
        assert moved == len(candidates)


def test_charge_is_the_noise_that_was_added() -> None:
    raw, noise = from_frame(stays(3000)), Recorded()
    schema = search_schema(raw, 3.0, 1e-6, SeededNoise(0, "columns")).schema
    result = search_relations(raw, schema, 0.01, noise)
    (charge,) = result.charges
    plan = plan_relations(relation_candidates(schema), 3000, 0.01)
    assert len(noise.exact) == len(plan.candidates)
    assert charge.sigma == pytest.approx(plan.sigma / math.sqrt(len(plan.candidates)))
    assert 1 / (2 * charge.sigma**2) == pytest.approx(plan.rho)
    assert plan.rho <= 0.01 * (1 + 1e-9)


def test_rows_influence_the_result_by_noisy_counts_only() -> None:
    table = stays(2000)
    raw, noise = from_frame(table), Recorded()
    schema = search_schema(raw, 3.0, 1e-6, SeededNoise(0, "columns")).schema
    first = search_relations(raw, schema, 0.01, noise)
    shuffled = from_frame(table.sample(frac=1, random_state=0).reset_index(drop=True))
    assert search_relations(shuffled, schema, 0.01, Recorded()) == first
    assert all(counts.sum() == len(table) for counts in noise.exact)


@pytest.mark.parametrize("n", [300, 3000, 300_000])
def test_plan_spends_at_most_its_share(n: int) -> None:
    candidates = [PairCandidate(str(i), "b", 1.0, True) for i in range(40)]
    for rho in (1e-6, 1e-4, 1e-2, 1.0):
        plan = plan_relations(candidates, n, rho)
        assert plan.rho <= rho * (1 + 1e-9)
        assert len(plan.candidates) <= MAX_CANDIDATES
        if plan.candidates:
            assert plan.sigma * math.sqrt(1.5) * 5.41 <= DETECTABLE * n
    assert plan_relations(candidates, 300, 1e-6).candidates == ()


def test_rows_that_violate_are_encoded() -> None:
    table = stays(4000, 5, exceptions=0.02)
    raw = from_frame(table)
    schema = found_in(table, 3.0, 2).schema
    assert Order("stay_begin", "stay_end") in schema.rules
    row = dict.fromkeys(table, "?!")
    strange = from_frame(pd.concat([table, pd.DataFrame([row])], ignore_index=True))
    assert len(encode(strange, schema).codes) == len(table) + 1
    assert (encode(strange, schema).codes[:-1] == encode(raw, schema).codes).all()
    swapped = table.assign(copied_stay_begin="1999-01-01")
    assert (encode(from_frame(swapped), schema).codes == encode(raw, schema).codes).all()


def test_columns_to_keep_are_sources() -> None:
    raw = from_frame(stays(4000))
    schema = search_schema(raw, 3.0, 1e-6, SeededNoise(0, "columns")).schema
    found = search_relations(raw, schema, 0.05, SeededNoise(0, "relations"), ["copied_stay_begin"]).schema
    assert found.by_name["stay_begin"] == Copy("stay_begin", "copied_stay_begin")
    small: RawTable = replace(raw, values=raw.values.slice(0, 60))
    assert search_relations(small, schema, 1e-5, SeededNoise(0, "relations")).charges == ()


def test_outcome_of_a_row_depends_on_no_other_row() -> None:
    """Words are numbered by their first occurrence, which one more row changes."""
    words = ["a", "b", "c", "d", "e", "f"]
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"group_a": rng.choice(words, 900), "group_b": rng.choice(words, 900)})
    raw = from_frame(table)
    schema = search_schema(raw, 1.0, 1e-6, SeededNoise(0, "columns")).schema
    candidate = PairCandidate("group_a", "group_b", 1.0, may_copy=True)
    last_first = from_frame(table[::-1].reset_index(drop=True))
    assert (outcomes_of(last_first, schema, candidate)[0][::-1] == outcomes_of(raw, schema, candidate)[0]).all()


def test_large_numbers_are_compared() -> None:
    """Times in milliseconds, and amounts of which only few are small, are not taken for missing cells."""
    rng = np.random.default_rng(0)
    begin, days = 1_600_000_000_000 + rng.integers(0, 10**10, 4000), rng.integers(0, 10**10, 4000)
    amount = np.where(rng.random(4000) < 0.05, 0, rng.integers(1, 100, 4000) * 10**14)
    table = pd.DataFrame(
        {
            "start_ms": begin.astype(str),
            "end_ms": (begin + days).astype(str),
            "amount": amount.astype(str),
            "amount_b": [f"{part:.9f}" for part in rng.uniform(1, 100, 4000)],
        }
    )
    raw = from_frame(table)
    schema = search_schema(raw, 1.0, 1e-6, SeededNoise(0, "columns")).schema
    found = search_relations(raw, schema, 1.0, SeededNoise(0, "relations"), ["start_ms"]).schema
    assert Order("start_ms", "end_ms") in found.rules
    assert not any("amount" in rule.names for rule in found.rules if isinstance(rule, Order))
