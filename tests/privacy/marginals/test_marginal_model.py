"""Graphical models against sums over all rows (M5)."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.privacy.marginals import MarginalModel
from tests.errors import refuses
from tests.privacy.marginals.tables import COUNTS, LOOP, joint_of, model_of, sum_to

EVERY_ROW = torch.tensor(list(itertools.product(*map(range, COUNTS))))


def test_marginals_of_all_columns() -> None:
    model = model_of(COUNTS, LOOP)
    joint, log_z = joint_of(model)
    assert abs(model.log_z - log_z) < 1e-10
    for size in range(1, 6):
        for columns in itertools.permutations(range(5), size):
            marginal = model.marginal(columns)
            assert marginal.shape == tuple(COUNTS[j] for j in columns)
            assert (marginal - sum_to(joint, columns)).abs().max() < 1e-10


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_log_z_and_marginals_of_any_model(data: st.DataObject) -> None:
    """Nested, repeated and missing cliques; columns of one level."""
    counts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    columns = st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=3, unique=True)
    cliques = [tuple(clique) for clique in data.draw(st.lists(columns, max_size=6))]
    model = model_of(counts, cliques, data.draw(st.integers(0, 9)))
    joint, log_z = joint_of(model)
    assert abs(model.log_z - log_z) < 1e-10
    asked = data.draw(columns)
    assert (model.marginal(asked) - sum_to(joint, asked)).abs().max() < 1e-10


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("missing", [(), (0,), (1, 3), (0, 1, 2, 3, 4)])
def test_column_probabilities_sum_over_unobserved_columns(column: int, missing: tuple[int, ...]) -> None:
    model = model_of(COUNTS, LOOP)
    law, _ = joint_of(model)
    observed = torch.ones(len(EVERY_ROW), 5, dtype=torch.bool)
    observed[:, [column, *missing]] = False
    found = model.column_probs(EVERY_ROW, observed, column)
    known = [j for j in range(5) if observed[0, j]]
    pairs = sum_to(law, [*known, column])
    wanted = pairs[tuple(EVERY_ROW[:, j] for j in known)] if known else pairs.expand(len(EVERY_ROW), -1)
    assert (found - wanted / wanted.sum(1, keepdim=True)).abs().max() < 1e-10
    given = model.column_probs(EVERY_ROW, torch.ones_like(observed), column)
    assert torch.equal(given.argmax(1), EVERY_ROW[:, column])
    assert (given.amax(1) - 1).abs().max() < 1e-12


def test_log_likelihood() -> None:
    model = model_of(COUNTS, LOOP)
    joint, _ = joint_of(model)
    value = model.log_likelihood(EVERY_ROW)
    assert abs(value.exp().sum().item() - 1) < 1e-12
    assert (value - joint.flatten().log()).abs().max() < 1e-10


def test_potentials_of_minus_infinity() -> None:
    model = model_of(COUNTS, LOOP)
    potentials = list(model.potentials)
    potentials[1] = potentials[1].clone()
    potentials[1][0] = -torch.inf  # column 1 is never 0
    potentials[1][2, 1] = -torch.inf
    barred = MarginalModel(COUNTS, model.cliques, tuple(potentials), 1.0)
    joint, log_z = joint_of(barred)
    assert abs(barred.log_z - log_z) < 1e-10
    for columns in itertools.combinations(range(5), 2):
        assert (barred.marginal(columns) - sum_to(joint, columns)).abs().max() < 1e-10
    assert barred.marginal([1])[0] == 0


def test_large_potentials() -> None:
    model = model_of(COUNTS, LOOP)
    large = MarginalModel(COUNTS, LOOP, tuple(5000 * potential for potential in model.potentials), 1.0)
    value = large.log_likelihood(EVERY_ROW)
    assert abs(value.max().item()) < 1e-6
    assert math.isfinite(large.log_z)
    assert abs(large.marginal([4, 0]).sum().item() - 1) < 1e-10


def test_no_cliques() -> None:
    model = MarginalModel((2, 5), (), (), 3.0)
    assert abs(model.log_z - math.log(10)) < 1e-12
    assert torch.allclose(model.marginal([1, 0]), torch.full((5, 2), 0.1, dtype=torch.float64))


def test_chain_of_60_columns() -> None:
    """A chain of 60 columns has 3^60 rows; two steps along it multiply its transitions."""
    model = model_of([3] * 60, [(i, i + 1) for i in range(59)])
    at, two = model.marginal([30]), model.marginal([30, 32])
    one, next_one = model.marginal([30, 31]), model.marginal([31, 32])
    assert (two - (one / model.marginal([31])) @ next_one).abs().max() < 1e-12
    assert (two.sum(1) - at).abs().max() < 1e-12
    assert abs(model.marginal([0, 20, 59]).sum().item() - 1) < 1e-12


def test_potentials_and_rules_of_wrong_shape() -> None:
    model = model_of(COUNTS, LOOP)
    rules = (((0, 1), torch.ones(3, 2, dtype=torch.bool)),)
    for potentials, more in ((tuple(table[:1] for table in model.potentials), ()), (model.potentials, rules)):
        with refuses(InputError):
            MarginalModel(COUNTS, LOOP, potentials, 1.0, more)


@pytest.mark.parametrize("columns", [[], [0, 0], [5], [-1]])
def test_invalid_columns(columns: list[int]) -> None:
    with refuses(UsageError, found=str(tuple(columns))):
        model_of(COUNTS, LOOP).marginal(columns)


def test_log_likelihood_of_invalid_codes() -> None:
    model = model_of(COUNTS, LOOP)
    with refuses(InputError, found="2"):
        model.log_likelihood(torch.zeros(3, 2, dtype=torch.long))
    wrong = torch.zeros(3, 5, dtype=torch.long)
    wrong[2, 1] = 3
    with refuses(InputError, expected="codes from 0 to 2 in column 1", found="3 in row 2"):
        model.log_likelihood(wrong)


def test_column_without_levels() -> None:
    with refuses(UsageError, found="levels (2, 0)"):
        MarginalModel((2, 0), (), (), 1.0)
