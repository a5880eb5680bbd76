"""Graphical models under public rules, against brute force."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.privacy.marginals import MarginalMeasurement, MarginalModel, aim, estimate, independent, mst
from tests.errors import refuses
from tests.privacy.marginals.tables import COUNTS, LOOP, Numbers, joint_of, model_of, sum_to

RULES = (
    ((0, 1), torch.tensor([[True, False, True], [True, True, False]])),
    ((3, 2), torch.tensor([[True, True, False, False], [False, True, True, True], [True, False, False, True]])),
)
EVERY_ROW = torch.tensor(list(itertools.product(*map(range, COUNTS))))
MODEL = MarginalModel(COUNTS, LOOP, model_of(COUNTS, LOOP).potentials, 1000.0, RULES)


def keeps(codes: Tensor) -> Tensor:
    return torch.stack([allowed[codes[:, a], codes[:, b]] for (a, b), allowed in RULES]).all(0)


def ruled(model: MarginalModel) -> Tensor:
    joint = joint_of(model)[0] * keeps(EVERY_ROW).double().view(COUNTS)
    return joint / joint.sum()


def test_model_with_rules() -> None:
    joint = ruled(MODEL)
    for columns in itertools.combinations(range(5), 2):
        assert (MODEL.marginal(columns) - sum_to(joint, columns)).abs().max() < 1e-12
    assert (MODEL.log_likelihood(EVERY_ROW).exp() - joint.flatten()).abs().max() < 1e-12
    drawn = MODEL.sample(5000, Rng(0))
    assert keeps(drawn).all()
    kept = torch.tensor([False, True, False, True, False]).expand(5000, -1)
    filled = MODEL.sample_missing(drawn, kept, Rng(1))
    assert keeps(filled).all()
    assert torch.equal(filled[kept], drawn[kept])


def test_evidence_that_breaks_a_rule() -> None:
    with refuses(InputError, found="probability 0 in row 0"):
        MODEL.sample(3, Rng(0), {0: 0, 1: 1})


def test_estimate_with_rules_is_stationary() -> None:
    """Stationary: each potential is (y - m) / (caution sigma), m by brute force over rows that keep the rules."""
    tables = [
        MarginalMeasurement(columns, 900 * model_of(COUNTS, LOOP).marginal(columns) + 1.0, sigma)
        for columns, sigma in (((0, 1), 20.0), ((1, 3), 5.0), ((2,), 9.0))
    ]
    model = estimate(COUNTS, tables, 1000.0, rules=RULES, caution=0.5, tolerance=1e-6)
    joint = ruled(model)
    for table, potential in zip(tables, model.potentials, strict=True):
        misfit = table.values - 1000 * sum_to(joint, table.columns)
        assert (0.5 * table.sigma * potential - misfit).abs().max() < 1e-3


@pytest.mark.parametrize("mechanism", [mst, aim, independent])
@pytest.mark.parametrize("rho", [1e-3, 0.5, math.inf])
def test_mechanisms_respect_rules(mechanism, rho: float) -> None:
    codes = MODEL.sample(500, Rng(0))
    release = mechanism(codes, COUNTS, rho, Numbers(1), rules=RULES)
    likely = release.model.log_likelihood(EVERY_ROW).exp()
    assert likely[~keeps(EVERY_ROW)].abs().max() == 0
    assert likely.sum().item() == pytest.approx(1, abs=1e-10)
    assert keeps(release.model.sample(500, Rng(1))).all()


def test_exact_counts_with_rules() -> None:
    """One-way marginals are exact though neither ruled pair was measured."""
    codes = MODEL.sample(4000, Rng(0))
    free, tied = (independent(codes, COUNTS, math.inf, Numbers(), rules=rules).model for rules in ((), RULES))
    for model in (free, tied):
        for j in range(5):
            shares = torch.bincount(codes[:, j], minlength=COUNTS[j]) / 4000
            assert (model.marginal([j]) - shares).abs().max() < 1e-3
    assert free.log_likelihood(codes).mean() < tied.log_likelihood(codes).mean()
