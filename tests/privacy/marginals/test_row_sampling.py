"""Rows drawn from a graphical model (M6, M7). Each chi-square fails a right program once in a million."""

import itertools
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.privacy.marginals import MarginalModel, eliminate, row_sampling, stratified, unstratified
from tests.errors import refuses
from tests.privacy.marginals.tables import COUNTS, LOOP, joint_of, model_of, sum_to

RARE = 1e-6


def cells(codes: Tensor, columns: tuple[int, ...], counts: tuple[int, ...] = COUNTS) -> Tensor:
    at = torch.zeros(len(codes), dtype=torch.long)
    for j in columns:
        at = at * counts[j] + codes[:, j]
    shape = [counts[j] for j in columns]
    return torch.bincount(at, minlength=math.prod(shape)).view(shape).double()


def agrees(observed: Tensor, odds: Tensor) -> bool:
    """Tell whether counts may come from some odds, by chi-square over the cells that are expected five times."""
    expected = (odds / odds.sum() * observed.sum()).flatten()
    observed, often = observed.flatten(), expected >= 5
    a = torch.cat([observed[often], observed[~often].sum()[None]])
    b = torch.cat([expected[often], expected[~often].sum()[None]])
    a, b = (a, b) if b[-1] >= 5 else (a[:-1], b[:-1] * a[:-1].sum() / b[:-1].sum())
    return bool(stats.chisquare(a.numpy(), b.numpy()).pvalue > RARE)


@pytest.fixture
def model() -> MarginalModel:
    return model_of(COUNTS, LOOP)


def test_sample_has_the_distribution_of_the_model(model: MarginalModel) -> None:
    joint, _ = joint_of(model)
    codes = model.sample(100_000, Rng(0))
    assert agrees(cells(codes, (0, 1, 2, 3, 4)), joint)
    assert not agrees(cells(codes, (0, 1, 2, 3, 4)), joint**1.05)


def test_consecutive_rows_are_independent(model: MarginalModel) -> None:
    """A row and the next one: all pairs of columns agree with the product."""
    codes = model.sample(100_000, Rng(1))
    pairs = torch.cat([codes[::2], codes[1::2]], 1)
    for i, j in itertools.product(range(5), repeat=2):
        odds = torch.outer(model.marginal([i]), model.marginal([j]))
        assert agrees(cells(pairs, (i, 5 + j), (*COUNTS, *COUNTS)), odds)


def stratified_in_order(uniform: Tensor, group: Tensor) -> Tensor:
    """The mistake that M6 finds: strata in the order of the rows."""
    spread = torch.empty_like(uniform)
    for each in group.unique():
        rows = (group == each).nonzero()[:, 0]
        spread[rows] = (torch.arange(len(rows)) + uniform[rows[0]]) / len(rows)
    return spread


@pytest.mark.parametrize(("spread", "right"), [(unstratified, True), (stratified, True), (stratified_in_order, False)])
def test_children_are_independent_given_their_parent(spread: row_sampling.Stratification, right: bool) -> None:
    tables = (torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.3, 0.0]]).double(), torch.tensor([[0, 1, 1, 0], [1, 0, 1, 2]]) / 2)
    family = MarginalModel((2, 3, 4), ((0, 1), (0, 2)), (tables[0], tables[1].double()), 1.0)
    codes = family.sample(50_000, Rng(0), stratification=spread)
    independent = []
    for parent in range(2):
        table = cells(codes[codes[:, 0] == parent], (1, 2), (2, 3, 4))
        independent.append(stats.chi2_contingency(table.numpy()).pvalue > RARE)
    assert all(independent) == right


def test_stratified_counts_are_within_one_of_expected() -> None:
    """The column that is drawn first has its counts to within one row, its child within one for each parent."""
    family = model_of((3, 4), [(0, 1)])
    assert eliminate(family.counts, family.cliques).buckets[-1].column == 1
    codes = family.sample(1000, Rng(3), stratification=stratified)
    table, expected = cells(codes, (1, 0), (3, 4)), family.marginal([1, 0])
    assert (table.sum(1) - 1000 * expected.sum(1)).abs().max() < 1
    assert (table - table.sum(1, keepdim=True) * expected / expected.sum(1, keepdim=True)).abs().max() < 1
    assert (cells(family.sample(1000, Rng(3)), (1,), (3, 4)) - 1000 * expected.sum(1)).abs().max() > 1


def test_stratified_is_uniform_at_each_place() -> None:
    group = torch.arange(10_000).repeat(3)
    spread = stratified(Rng(0).stream("spread").uniform((30_000,), torch.float64), group).view(3, 10_000)
    thirds = (3 * spread).long()
    assert torch.equal(thirds.sort(0).values, torch.arange(3)[:, None].expand(3, 10_000))
    orders = cells(thirds.T, (0, 1), (3, 3))[~torch.eye(3, dtype=torch.bool)]
    assert agrees(orders, torch.ones(6).double())
    alone = stratified(Rng(0).stream("spread").uniform((30_000,), torch.float64), torch.arange(30_000))
    for place in (*spread, alone):
        assert agrees(torch.bincount((12 * place).long(), minlength=12).double(), torch.ones(12).double())


def test_sample_given_evidence() -> None:
    n, counts = 200_000, (6, 8, 10, 7, 9)
    wide = model_of(counts, LOOP)
    codes = wide.sample(n, Rng(0), {1: 2, 4: 0})
    assert (codes[:, 1] == 2).all()
    assert (codes[:, 4] == 0).all()
    every = torch.cartesian_prod(*map(torch.arange, counts))
    conditional = wide.log_likelihood(every).exp().view(counts)[:, 2, :, :, 0]
    conditional = conditional / conditional.sum()
    free, distance, floor = (0, 2, 3), [], []
    for pair in itertools.combinations(range(3), 2):
        p = sum_to(conditional, pair)
        observed = cells(codes, tuple(free[i] for i in pair), counts) / n
        distance.append(0.5 * (observed - p).abs().sum().item())
        floor.append(0.5 * math.sqrt(2 / math.pi) * (p * (1 - p) / n).sqrt().sum().item())
    assert sum(distance) < 1.1 * sum(floor)
    assert agrees(cells(codes, free, counts), conditional)


def test_impossible_evidence() -> None:
    table = torch.tensor([[0.0, -torch.inf], [0.0, 0.0]]).double()
    barred = MarginalModel((2, 2, 2), ((0, 1), (0, 1, 2)), (table, torch.zeros(2, 2, 2).double()), 1.0)
    assert (barred.sample(100, Rng(0), {1: 1})[:, 0] == 1).all()
    kept = torch.tensor([[True, False, False], [True, True, False], [False, True, False]])
    with refuses(InputError, found="probability 0 in row 1"):
        barred.sample_missing(torch.tensor([[0, 1, 0]]).repeat(3, 1), kept, Rng(0))
    with refuses(UsageError, found="2"):
        barred.sample(1, Rng(0), {1: 2})
    with refuses(UsageError, found="(3,)"):
        barred.sample(1, Rng(0), {3: 0})


def test_sample_missing_has_the_conditional_distribution(model: MarginalModel) -> None:
    joint, _ = joint_of(model)
    rows = model.sample(60_000, Rng(0))
    kept = Rng(1).stream("kept").bernoulli(0.5, rows.shape)
    full = model.sample_missing(rows, kept, Rng(2))
    assert torch.equal(full[kept], rows[kept])
    assert agrees(cells(full, (0, 1, 2, 3, 4)), joint)
    bare = kept.sum(1) == 2  # what is drawn goes with what was kept, not with what was hidden
    hidden = torch.stack([rows[bare, 2], full[bare, 2]], 1)[~kept[bare, 2]]
    assert (hidden[:, 0] != hidden[:, 1]).any()


def test_excluded_codes(model: MarginalModel) -> None:
    """What is left is the conditional without it; a row that has nothing else keeps it."""
    joint, _ = joint_of(model)
    codes, kept = torch.tensor([[1, 0, 3, 0, 0]]).repeat(20_000, 1), torch.tensor([True, False, True, False, False])
    full = model.sample_missing(codes, kept.expand(20_000, -1), Rng(0), excluded_codes=(1, 2, 3, -1, -1))
    odds = joint[1, :, 3].clone()
    odds[2] = 0
    assert (full[:, 1] != 2).all()
    assert (full[:, 0] == 1).all()  # what is given stays
    assert agrees(cells(full, (1, 3, 4)), odds)
    table = torch.tensor([[0.0, -torch.inf], [0.0, 0.0]]).double()
    forced = MarginalModel((2, 2), ((0, 1),), (table,), 1.0)
    rows, first = torch.tensor([[0, 0], [1, 0]]).repeat(50, 1), torch.tensor([[True, False]]).expand(100, -1)
    assert forced.sample_missing(rows, first, Rng(0), excluded_codes=(-1, 0))[:, 1].tolist() == [0, 1] * 50


def test_rows_do_not_depend_on_batch_or_chunk(model: MarginalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = model.sample(300, Rng(0))
    kept = Rng(1).stream("kept").bernoulli(0.4, rows.shape)
    full = model.sample_missing(rows, kept, Rng(2))
    assert torch.equal(model.sample_missing(rows[:70], kept[:70], Rng(2)), full[:70])
    monkeypatch.setattr(row_sampling, "MAX_CASE_ENTRIES", 100)
    monkeypatch.setattr(row_sampling, "ROWS", 7)
    assert torch.equal(model.sample_missing(rows, kept, Rng(2)), full)
    assert torch.equal(model.sample(300, Rng(0)), rows)


def test_hidden_codes_are_ignored(model: MarginalModel) -> None:
    rows = model.sample(50, Rng(0))
    kept = Rng(1).stream("kept").bernoulli(0.4, rows.shape)
    other = torch.where(kept, rows, -7)
    assert torch.equal(model.sample_missing(other, kept, Rng(2)), model.sample_missing(rows, kept, Rng(2)))
    with refuses(InputError, expected="codes from 0 to 1 in column 0", found="-7 in row 0"):
        model.sample_missing(torch.full_like(rows, -7), torch.ones_like(kept), Rng(2))


def test_no_rows_and_nothing_missing(model: MarginalModel) -> None:
    assert model.sample(0, Rng(0)).shape == (0, 5)
    rows = model.sample(5, Rng(0))
    assert torch.equal(model.sample_missing(rows, torch.ones_like(rows, dtype=torch.bool), Rng(1)), rows)
    assert torch.equal(model.sample(5, Rng(0)), rows)
    assert not torch.equal(model.sample(5, Rng(1)), rows)
