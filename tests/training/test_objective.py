"""Flow matching objective."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.networks.condition_dropout import drop_conditions
from feller.paths import Affine, Mixture, ProductPath, VelocityPrediction
from feller.paths.time_distributions import LeafTimes, Rescaled
from feller.spaces import Euclidean, MaskSource, Tokens, UniformSource
from feller.spaces import Product as ProductSpace
from feller.training.couplings import MinibatchOT
from feller.training.losses import CrossEntropy, GeneralizedKL, PerLeafLoss, SquaredError
from feller.training.objective import FlowMatching
from tests.errors import refuses
from tests.oracle import F64, Normal, close

FLOW = FlowMatching(Affine(), Euclidean((1,)), cond_dropout=0.0)


def data(n: int) -> Tensor:
    """Draw from N(1, 0.25)."""
    return 1 + 0.5 * Rng(9).stream("data").normal((n, 1), F64)


def test_examples_follow_the_path() -> None:
    x_1 = data(300)
    drawn = FLOW.draw({"x_1": x_1}, Rng(0))
    x_0 = Rng(0).stream("source").normal((300, 1)).double()
    t = drawn["t"][:, None].double()
    close(drawn["x_t"], t * x_1 + (1 - t) * x_0, 1e-6)
    close(drawn["target"], x_1 - x_0, 1e-14)


def test_given_sources_are_used() -> None:
    x_1, x_0 = data(5), torch.zeros(5, 1, dtype=F64)
    assert torch.equal(FLOW.draw({"x_1": x_1, "x_0": x_0}, Rng(0))["target"], x_1)


def test_a_coupling_rearranges_the_source() -> None:
    """In one dimension transport is monotone, so targets x_1 - x_0 rise or fall less."""
    x_1 = data(256)
    coupled = FlowMatching(Affine(), Euclidean((1,)), coupling=MinibatchOT())
    cost = [o.draw({"x_1": x_1}, Rng(0))["target"].square().mean() for o in (coupled, FLOW)]
    assert cost[0] < 0.7 * cost[1]


def test_minimum_loss_is_the_conditional_variance() -> None:
    """The exact velocity does not bring the loss to zero but to E Var(x_1 - x_0 | x_t); 40,000 examples.

    At each t it is s^2 + 1 - (t s^2 - (1 - t))^2 / V_t; the mean over t by a sum; 5 standard errors, false alarm 6e-7.
    """
    n = 40_000
    drawn = FLOW.draw({"x_1": data(n)}, Rng(0))
    exact = FLOW.loss(lambda x, t, given: Normal().predict(VelocityPrediction(), x, t.double()), drawn)
    t = (torch.arange(1000, dtype=F64) + 0.5) / 1000
    floor = (1.25 - (0.25 * t - (1 - t)) ** 2 / (0.25 * t**2 + (1 - t) ** 2)).mean()
    assert abs(exact.mean() - floor) < 5 * exact.std() / n**0.5
    other = FLOW.loss(lambda x, t, given: Normal().predict(VelocityPrediction(), x, t.double()) + 0.3, drawn)
    assert abs(other.mean() - exact.mean() - 0.09) < 5 * (other - exact).std() / n**0.5


def test_conditions_are_dropped_together_with_cond_dropout() -> None:
    """30 % of 10,000 examples lose both conditions at once, none loses one; false alarm 6e-7."""
    given = {
        "label": torch.zeros(10_000, dtype=torch.long),
        "pair": torch.zeros(10_000, 2),
        "valid": torch.ones(10_000, 2, dtype=torch.bool),
    }
    dropped = drop_conditions(given, {"label": 7, "pair": -1.0}, 0.3, Rng(0))
    gone = dropped["label"] == 7
    assert abs(gone.double().mean().item() - 0.3) < 5 * math.sqrt(0.21 / 10_000)
    assert torch.equal(gone, (dropped["pair"] == -1).all(1))
    assert torch.equal(gone, (dropped["pair"] == -1).any(1))
    assert dropped["valid"] is given["valid"]
    assert given["label"].sum() == 0


def test_nothing_is_dropped_without_chance_or_conditions() -> None:
    given = {"label": torch.zeros(4, dtype=torch.long)}
    assert drop_conditions(given, {"label": 7}, 0.0, Rng(0)) is given
    marks = {"valid": torch.ones(4, 2, dtype=torch.bool)}
    assert drop_conditions(marks, None, 0.5, Rng(0)) is marks


def test_padding_reaches_neither_loss_nor_gradient() -> None:
    """Sentences of 3 and 5 tokens padded to 6, against the same without padding."""
    objective = FlowMatching(Mixture(), Tokens(4, (6,), MaskSource()), GeneralizedKL(), Rescaled(0.99))
    valid = torch.arange(6) < torch.tensor([[3], [5]])
    x_1 = torch.tensor([[1, 2, 3, 0, 0, 0], [3, 3, 0, 1, 2, 0]])
    drawn = objective.draw({"x_1": x_1, "given": {"valid": valid}}, Rng(0))
    logits = Rng(5).stream("logits").normal((2, 6, 4), F64).requires_grad_()
    loss = objective.loss(lambda x, t, given: logits, drawn)
    for row, length in enumerate((3, 5)):
        one = {name: drawn[name][row : row + 1, :length] for name in ("x_t", "target")}
        short = objective.loss(
            lambda x, t, given, row=row, length=length: logits[row : row + 1, :length],
            {**one, "t": drawn["t"][row : row + 1], "given": {}},
        )
        close(loss[row : row + 1], short.detach(), 1e-12)
    loss.sum().backward()
    assert (logits.grad[~valid] == 0).all()


def test_products_are_passed_to_the_network_as_in_sampling() -> None:
    path = ProductPath({"a": Affine(), "b": Mixture()})
    space = ProductSpace({"a": Euclidean((2,)), "b": Tokens(3, (2,), MaskSource())})
    objective = FlowMatching(path, space, PerLeafLoss({"a": SquaredError(), "b": CrossEntropy()}))
    seen = []

    def network(x, t, given):
        seen.append(t)
        return {"a": x["a"], "b": torch.zeros(4, 2, 3)}

    x_1 = {"a": torch.ones(4, 2), "b": torch.ones(4, 2, dtype=torch.long)}
    drawn = objective.draw({"x_1": x_1}, Rng(0), network)
    assert objective.loss(network, drawn).shape == (4,)
    path.process(network, {})(drawn["x_t"], drawn["t"]["a"])
    assert [t.keys() for t in seen] == [{"a", "b"}] * 2
    assert torch.equal(seen[0]["a"], seen[0]["b"])


def test_known_entries_are_the_data_and_have_no_loss() -> None:
    space = Tokens(4, (50,), UniformSource())
    objective = FlowMatching(
        Mixture(source=UniformSource()), space, CrossEntropy(), time_distribution=Rescaled(0.01), inpaint_prob=0.5
    )
    x_1 = torch.zeros(200, 50, dtype=torch.long)
    example = objective.draw({"x_1": x_1}, Rng(0))
    known = example["given"]["known"]
    assert (example["x_t"][known] == 0).all()
    assert 0.35 < known.any(1).double().mean() < 0.65  # 4 standard deviations
    assert 0.2 < known[known.any(1)].double().mean() < 0.8
    assert (example["x_t"][~known] != 0).double().mean() > 0.7

    def network(x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.where(given["known"][..., None], torch.nan, torch.zeros(*x_t.shape, 4))

    close(objective.loss(network, example), torch.where(known.all(1), 0.0, math.log(4)), 1e-6)


BOTH = FlowMatching(
    ProductPath({"number": Affine(), "token": Mixture()}),
    ProductSpace({"number": Euclidean((3, 2)), "token": Tokens(4, (3,), UniformSource())}),
    PerLeafLoss({"number": SquaredError(), "token": CrossEntropy()}),
    leaf_times=LeafTimes(observed_prob=1.0),
)


def _answer(x: dict[str, Tensor], t: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"number": torch.zeros_like(x["number"]), "token": torch.zeros(*x["token"].shape, 4)}


def test_observed_leaves_are_the_data_and_have_no_loss() -> None:
    """Where the token is given the loss is that of the number alone, and the other way round: log 4."""
    x_1 = {"number": torch.randn(64, 3, 2), "token": torch.randint(4, (64, 3))}
    drawn = BOTH.draw({"x_1": x_1}, Rng(0))
    token, number = drawn["t"]["token"] == 1, drawn["t"]["number"] == 1
    assert (token ^ number).all()
    assert 10 < token.sum() < 54
    assert torch.equal(drawn["x_t"]["token"][token], x_1["token"][token])
    assert torch.equal(drawn["x_t"]["number"][number], x_1["number"][number])
    loss = BOTH.loss(_answer, drawn)
    close(loss[number], torch.full((int(number.sum()),), math.log(4)), 1e-6)
    close(loss[token], drawn["target"]["number"].square().mean((1, 2))[token], 1e-6)
    assert BOTH.conditionable == ("number", "token")
    assert FLOW.conditionable == ()


def test_masks_of_one_leaf_do_not_change_the_others() -> None:
    plain = replace(BOTH, leaf_times=LeafTimes())
    x_1 = {"number": torch.randn(5, 3, 2), "token": torch.randint(4, (5, 3))}
    valid = torch.arange(3) < torch.tensor([[1], [2], [3], [1], [0]])
    dirty = {**x_1, "number": torch.where(valid[:, :, None], x_1["number"], torch.nan)}
    drawn = plain.draw({"x_1": dirty, "given": {"valid": {"number": valid}}}, Rng(0))
    loss = plain.loss(_answer, drawn)
    squares = torch.where(valid[:, :, None], drawn["target"]["number"].square(), 0).sum((1, 2))
    close(loss, math.log(4) + squares / (2 * valid.sum(1)).clamp(min=1), 1e-5)


def test_padding_may_hold_anything() -> None:
    valid = torch.tensor([[True, True, False], [True, False, False]])
    x_1 = torch.where(valid, 0.0, math.nan)
    FlowMatching(Affine(), Euclidean((3,))).draw({"x_1": x_1, "given": {"valid": valid}}, Rng(0))
    with pytest.raises(InputError):
        FlowMatching(Affine(), Euclidean((3,))).draw({"x_1": x_1, "given": {"valid": ~valid}}, Rng(0))
    tokens = torch.where(valid, 1, -100)
    draws = FlowMatching(Mixture(), Tokens(5, (3,), MaskSource()), CrossEntropy())
    draws.draw({"x_1": tokens, "given": {"valid": valid}}, Rng(0))


def test_random_numbers_of_steps_differ() -> None:
    x_1 = data(64)
    first, again, second = (FLOW.draw({"x_1": x_1}, Rng(0).step(i)) for i in (0, 0, 1))
    assert torch.equal(first["t"], again["t"])
    assert torch.equal(first["x_t"], again["x_t"])
    assert (first["target"] != second["target"]).all()
    assert (first["t"] != second["t"]).all()


def test_draw_works_under_vmap() -> None:
    """There values cannot be looked at, so the checks look at shapes alone."""

    def one(x: Tensor) -> Tensor:
        return FLOW.draw({"x_1": x[None], "given": {}}, Rng(0), lambda x, t, given: x)["target"]

    found = torch.vmap(one, randomness="same")(torch.arange(3.0)[:, None])
    assert found.shape == (3, 1, 1)
    close(found[1:] - found[:-1], torch.ones(2, 1, 1), 1e-6)


def test_numbers_with_a_null_value_of_nan_may_be_missing() -> None:
    batch = {"x_1": torch.randn(4, 2), "x": torch.tensor([1.0, math.nan, 2.0, 3.0])}
    objective = FlowMatching(Affine(), Euclidean((2,)), cond_dropout=0.0, null={"x": math.nan})
    torch.testing.assert_close(objective.draw(batch, Rng(0))["given"]["x"], batch["x"], equal_nan=True)
    with refuses(InputError, argument="x"):
        FlowMatching(Affine(), Euclidean((2,))).draw(batch, Rng(0))


def test_each_of_several_conditions_is_dropped_together_and_alone() -> None:
    """With probability p all are dropped, and each of the others alone with p; false alarm below 1e-6."""
    n, p = 40_000, 0.2
    batch = {"x_1": torch.randn(n, 2), "a": torch.zeros(n), "b": torch.zeros(n), "c": torch.zeros(n)}
    null = dict.fromkeys("abc", math.nan)
    objective = FlowMatching(Affine(), Euclidean((2,)), cond_dropout=p, null=null, always_given=("c",))
    given = objective.draw(batch, Rng(0))["given"]
    dropped = {name: given[name].isnan() for name in "abc"}
    assert not dropped["c"].any()
    tolerance = 5 * 0.5 / math.sqrt(n)
    assert dropped["a"].float().mean().item() == pytest.approx(p + (1 - p) * p, abs=tolerance)
    both = (dropped["a"] & dropped["b"]).float().mean().item()
    assert both == pytest.approx(p + (1 - p) * p**2, abs=tolerance)


def test_the_default_loss_is_that_of_the_path() -> None:
    """Uniform logits cost log 4 per masked token."""
    assert FlowMatching(Affine(), Euclidean((1,))).criterion == SquaredError()
    tokens = FlowMatching(Mixture(source=MaskSource()), Tokens(4, (3,), MaskSource()))
    assert tokens.criterion == CrossEntropy()
    example = tokens.draw({"x_1": torch.randint(4, (8, 3))}, Rng(0))
    losses = tokens.loss(lambda x, t, given: torch.zeros(*x.shape, 4), example)
    close(losses, math.log(4) * (example["x_t"] == 4).float().mean(1), 1e-6)
    both = FlowMatching(BOTH.path, BOTH.space, leaf_times=BOTH.leaf_times)
    assert both == BOTH
    assert replace(both, path=BOTH.path).criterion == BOTH.criterion
