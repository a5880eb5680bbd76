"""The private selection step of MST and AIM: privacy loss by enumeration, scores, budget split, annealing."""

import importlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.privacy.marginals import Curator, aim, mst
from feller.privacy.marginals.aim import MEASURING, ROUNDS
from feller.privacy.noise.grid_noise import Noise
from tests.privacy.marginals.tables import COUNTS, Numbers, model_of, sum_to, table_of

BINARY = (2, 2, 2)
PAIRS = [(0, 1), (0, 2), (1, 2)]
ROWS = [*itertools.product(range(2), repeat=3)]
EPSILON = 1.3
CODES = model_of(COUNTS, [(0, 1), (1, 2), (2, 3), (3, 4)]).sample(500, Rng(0))


@dataclass
class Given(Noise):
    """Uniform numbers whose Gumbel noise is given."""

    gumbel: Tensor

    def random_bytes(self, count: int) -> bytes:
        raise AssertionError("only uniform numbers are drawn")

    def uniform(self, shape: Sequence[int]) -> Tensor:
        assert tuple(shape) == tuple(self.gumbel.shape)
        return (-(-self.gumbel).exp()).exp()


def probabilities(rows: Sequence[tuple[int, ...]], expected: dict, weights: dict, allowance: dict) -> Tensor:
    """Return P(choice = i), recovered from the code: bisect the Gumbel noise at which the choice flips.

    It flips at the difference of two logits; the noise of all other candidates is so low that they cannot win.
    """
    codes, logits = torch.tensor(rows), [0.0]
    for i in range(1, len(expected)):
        low, high = -10.0, 10.0
        for _ in range(40):
            middle = (low + high) / 2
            gumbel = torch.full((len(expected),), -300.0, dtype=torch.float64)
            gumbel[0], gumbel[i] = 5 + middle, 5.0
            curator = Curator(codes, BINARY, 1.0, Given(gumbel))
            first = curator.select_worst(expected, weights, allowance, EPSILON, "test") == PAIRS[0]
            low, high = (low, middle) if first else (middle, high)
        logits.append((low + high) / 2)
    return torch.tensor(logits, dtype=torch.float64).softmax(0)


def renyi(p: Tensor, q: Tensor, order: float) -> float:
    """Rényi divergence of p from q."""
    return float((order * p.log() + (1 - order) * q.log()).logsumexp(0)) / (order - 1)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.25, 1.0, 0.5)])
def test_selection_is_epsilon_bounded_range_and_zcdp_on_all_neighbours(weights: tuple[float, ...]) -> None:
    """Enumerate neighbours: log-ratios range over at most epsilon, and reach it where the weights are equal.

    Such a mechanism is epsilon^2 / 8 zero-concentrated: Cesar and Rogers 2021. What is expected stays, as n is public.
    """
    law = model_of(BINARY, PAIRS, 2)
    expected = {pair: 2 * law.marginal(pair) for pair in PAIRS}
    allowance = dict(zip(PAIRS, (0.3, 0.0, 0.7), strict=True))
    scales = dict(zip(PAIRS, weights, strict=True))
    found = {
        rows: probabilities(rows, expected, scales, allowance)
        for n in (1, 2)
        for rows in itertools.combinations_with_replacement(ROWS, n)
    }
    widest = 0.0
    for rows, row in itertools.product([rows for rows in found if len(rows) == 1], ROWS):
        p, q = found[rows], found[tuple(sorted((*rows, row)))]
        ratio = (p / q).log()
        widest = max(widest, float(ratio.max() - ratio.min()))
        for order in (1.01, 2.0, 8.0, 64.0):
            assert max(renyi(p, q, order), renyi(q, p, order)) <= order * EPSILON**2 / 8 * (1 + 1e-6)
    assert widest <= EPSILON * (1 + 1e-6)
    assert widest == pytest.approx(EPSILON, rel=1e-6) or min(weights) < 1
    scores = torch.tensor(
        [
            weight * (float((table_of(torch.tensor(ROWS[2:4]), BINARY, pair) - expected[pair]).abs().sum()) - less)
            for pair, weight, less in zip(PAIRS, weights, allowance.values(), strict=True)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(found[tuple(ROWS[2:4])], (EPSILON * scores / 2).softmax(0), rtol=1e-6, atol=1e-9)


class Choice(NamedTuple):
    """Arguments of one selection, its result, and the sigma of the measurement after it."""

    expected: dict[tuple[int, ...], Tensor]
    weights: dict[tuple[int, ...], float]
    allowance: dict[tuple[int, ...], float]
    epsilon: float
    chosen: tuple[int, ...]
    sigma: list[float]


@dataclass
class Recorded:
    first: list[tuple[tuple[int, ...], float]] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    record, choose, measure = Recorded(), Curator.select_worst, Curator.measure

    def choosing(self, expected, weights, allowance, epsilon, what):
        chosen = choose(self, expected, weights, allowance, epsilon, what)
        record.choices.append(Choice(dict(expected), dict(weights), dict(allowance), epsilon, chosen, []))
        return chosen

    def measuring(self, columns, sigma, what):
        if record.choices:
            assert columns == record.choices[-1].chosen
            record.choices[-1].sigma.append(sigma)
        else:
            record.first.append((columns, sigma))
        return measure(self, columns, sigma, what)

    monkeypatch.setattr(Curator, "select_worst", choosing)
    monkeypatch.setattr(Curator, "measure", measuring)
    return record


def test_mst_spends_a_third_each_on_columns_choices_and_pairs(recorded: Recorded) -> None:
    """Algorithm 1 of McKenna, Miklau and Sheldon 2021: sigma of all columns, epsilon and sigma of r - 1 edges."""
    rho = 0.3
    release = mst(CODES, COUNTS, rho, Numbers(1))
    assert [cost for _, cost in release.charges] == pytest.approx([rho / 3] * 3, rel=1e-9)
    assert [sigma for _, sigma in recorded.first] == pytest.approx([math.sqrt(3 * 5 / (2 * rho))] * 5)
    assert len(recorded.choices) == 4
    part = {j: {j} for j in range(5)}
    for choice in recorded.choices:
        assert choice.epsilon == pytest.approx(math.sqrt(8 * rho / 3 / 4))
        assert choice.sigma == pytest.approx([math.sqrt(3 * 4 / (2 * rho))])
        assert {*choice.expected} == {(i, j) for i, j in itertools.combinations(range(5), 2) if j not in part[i]}
        assert {choice.weights[pair] for pair in choice.expected} == {1.0}
        assert {choice.allowance[pair] for pair in choice.expected} == {0.0}
        whole = part[choice.chosen[0]] | part[choice.chosen[1]]
        part.update(dict.fromkeys(whole, whole))
    for table in recorded.choices[0].expected.values():
        alone = [sum_to(table, [axis]) for axis in (0, 1)]
        torch.testing.assert_close(table, torch.outer(*alone) / 500)
        assert table.sum() == pytest.approx(500)


def test_aim_scores_and_anneals_as_published(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """McKenna and others 2022: quality score with its bias, first sigma, and sigma halved where little moved."""
    rho, degree = 0.5, 2
    module = importlib.import_module("feller.privacy.marginals.aim")
    models, estimate = [], module.estimate

    def estimating(*arguments, **settings):
        models.append(estimate(*arguments, **settings))
        return models[-1]

    monkeypatch.setattr(module, "estimate", estimating)
    release = aim(CODES, COUNTS, rho, Numbers(1), degree=degree)
    workload = [*itertools.combinations(range(5), degree)]
    shared = {
        table: sum(len({*table} & {*other}) for other in workload)
        for size in (1, 2)
        for table in itertools.combinations(range(5), size)
    }
    sigma = math.sqrt(ROUNDS * 5 / (2 * MEASURING * rho))
    epsilon = math.sqrt(8 * (1 - MEASURING) * rho / (ROUNDS * 5))
    assert [found for _, found in recorded.first] == pytest.approx([sigma] * 5)
    spent, halved = 5 / (2 * sigma**2), 0
    for index, choice in enumerate(recorded.choices):
        left = rho - spent
        last = left < 2 * (0.5 / sigma**2 + epsilon**2 / 8)
        if last:
            sigma, epsilon = math.sqrt(1 / (2 * MEASURING * left)), math.sqrt(8 * (1 - MEASURING) * left)
        assert choice.epsilon == pytest.approx(epsilon, rel=1e-9)
        assert choice.sigma == pytest.approx([sigma], rel=1e-9)
        spent += 0.5 / sigma**2 + epsilon**2 / 8
        before, after = models[index], models[index + 1]
        for table, expected in choice.expected.items():
            torch.testing.assert_close(expected, 500 * before.marginal(table))
            assert choice.weights[table] == pytest.approx(shared[table] / max(shared.values()))
            assert choice.allowance[table] == pytest.approx(math.sqrt(2 / math.pi) * sigma * expected.numel())
        assert last == (choice is recorded.choices[-1])
        moved = float((500 * (after.marginal(choice.chosen) - before.marginal(choice.chosen))).abs().sum())
        if moved <= math.sqrt(2 / math.pi) * sigma * math.prod(COUNTS[j] for j in choice.chosen):
            sigma, epsilon, halved = sigma / 2, 2 * epsilon, halved + 1
    assert 0 < halved < len(recorded.choices)
    assert spent == pytest.approx(rho)
    assert math.fsum(cost for _, cost in release.charges) == pytest.approx(rho, rel=1e-9)
