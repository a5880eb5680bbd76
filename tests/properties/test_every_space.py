"""Properties of every space and token source."""

import pytest
import torch

from feller.core.pytree import leaves, tree_map
from feller.core.rng import Rng
from feller.spaces import Space, Tokens, TokenSource
from tests.properties.examples import Case, cases


@pytest.mark.parametrize("case", cases(Space))
def test_base_samples_do_not_depend_on_the_batch(case: Case) -> None:
    whole = case.kind.sample_base(300, Rng(0).stream("source"))
    parts = [case.kind.sample_base(b - a, Rng(0, a).stream("source")) for a, b in ((0, 9), (9, 256), (256, 300))]
    for ours, again, split in zip(
        leaves(whole),
        leaves(case.kind.sample_base(300, Rng(0).stream("source"))),
        leaves(tree_map(lambda *leaf: torch.cat(leaf), *parts)),
        strict=True,
    ):
        assert torch.equal(ours, again)
        assert torch.equal(ours, split)
        assert len(ours) == 300


@pytest.mark.parametrize("case", cases(Space))
def test_steps_of_length_zero_stay(case: Case) -> None:
    x = case.kind.sample_base(5, Rng(0).stream("source"))
    if any(not leaf.is_floating_point() for leaf in leaves(x)):
        pytest.skip("tokens do not flow")
    v = tree_map(torch.ones_like, x)
    for moved, still in zip(leaves(case.kind.integrate_step(x, v, 0.0)), leaves(x), strict=True):
        torch.testing.assert_close(moved, still, rtol=1e-5, atol=1e-5)
    for once, stepped in zip(
        leaves(case.kind.integrate_step(x, v, 0.5)), leaves(case.kind.step(x, 0.5 * v)), strict=True
    ):
        torch.testing.assert_close(once, stepped)


@pytest.mark.parametrize("case", cases(TokenSource))
def test_source_probabilities_sum_to_one(case: Case) -> None:
    probabilities = case.kind.probabilities(4)
    assert len(probabilities) in (4, 5)
    assert probabilities.dtype == torch.float64
    assert (probabilities >= 0).all()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-15)
    x = Tokens(4, (50,), case.kind).sample_base(200, Rng(0).stream("source"))
    assert (probabilities[x] > 0).all()
