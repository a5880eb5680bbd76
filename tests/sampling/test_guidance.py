"""Classifier-free and classifier guidance."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import (
    Affine,
    DataPrediction,
    NoisePrediction,
    Prediction,
    ScorePrediction,
    VelocityPrediction,
    convert,
)
from feller.paths.predictions import Prediction as Kind
from feller.paths.schedules import Cosine, Linear, Schedule
from feller.sampling import RK4, ExactDivergence, log_prob, sample_with_log_prob
from feller.sampling.guidance import cfg, cfg_combine, classifier_guidance, drop_conditions, token_classifier_guidance
from tests.errors import refuses
from tests.oracle import F64, Normal, close, f64

X = torch.linspace(-2, 2, 9, dtype=F64)[:, None]
T = torch.full((9,), 0.3, dtype=F64)
LABEL = {"label": torch.zeros(9, dtype=torch.long)}
NULLS = {"label": 1}


def two_laws(kind: Kind, schedule: Schedule):
    """Return the exact prediction for N(1, 0.25) at label 0 and N(-0.5, 1) at label 1, the null label."""

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        with_label, without = Normal(schedule), Normal(schedule, -0.5, 1.0)
        plain = given["label"][:, None] == 0
        return torch.where(plain, with_label.predict(kind, x, t), without.predict(kind, x, t))

    return network


@pytest.mark.parametrize("w", [0.0, 0.3, 1.0, 1.7, 4.0])
def test_cfg_convention(w: float) -> None:
    network = two_laws(VelocityPrediction(), Linear())
    guided = cfg(network, w, nulls=NULLS)(X, T, LABEL)
    plain, without = (
        Normal().predict(VelocityPrediction(), X, T),
        Normal(Linear(), -0.5, 1.0).predict(VelocityPrediction(), X, T),
    )
    close(guided, (1 - w) * without + w * plain, 1e-14)


def test_weights_zero_and_one_are_exact() -> None:
    network = two_laws(VelocityPrediction(), Linear())
    assert cfg(network, 1.0) is network
    assert torch.equal(cfg(network, 0.0, nulls=NULLS)(X, T, LABEL), network(X, T, {"label": 1 - LABEL["label"] * 0}))


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=repr)
@pytest.mark.parametrize(
    "kind", [VelocityPrediction(), DataPrediction(), NoisePrediction(), ScorePrediction()], ids=repr
)
def test_guidance_commutes_with_prediction_conversion(kind: Prediction, schedule: Schedule) -> None:
    guided = cfg(two_laws(kind, schedule), 2.5, nulls=NULLS)(X, T, LABEL)
    velocity = cfg(two_laws(VelocityPrediction(), schedule), 2.5, nulls=NULLS)(X, T, LABEL)
    close(convert(guided, kind, VelocityPrediction(), X, schedule(T)), velocity, 1e-12)


def test_guided_logits_are_powers_of_both_distributions() -> None:
    """Log p = (1 - w) log p(without) + w log p(with), up to the norm."""
    plain, without = f64(0.7, 0.2, 0.1), f64(0.3, 0.3, 0.4)

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.where(given["label"][:, None] == 0, plain.log(), without.log())

    law = cfg(network, 2.0, nulls=NULLS)(X, T, LABEL).softmax(-1)
    expected = plain**2 / without
    close(law, (expected / expected.sum()).expand(9, 3), 1e-14)


def test_densities_of_guided_flows_integrate_to_one() -> None:
    divergence, network = ExactDivergence(), cfg(two_laws(VelocityPrediction(), Linear()), 2.5, nulls=NULLS)
    process = Affine().process(network, {"label": torch.zeros(401).long()})
    x, there = torch.linspace(-4, 6, 401, dtype=F64)[:, None], [i / 100 for i in range(101)]
    found = log_prob(process, x, there[::-1], RK4(), Rng(0), divergence=divergence)
    assert abs(torch.trapezoid(found.exp(), x[:, 0]).item() - 1) < 1e-6
    y, known = sample_with_log_prob(process, x / 3, there, RK4(), Rng(0), divergence=divergence)
    close(log_prob(process, y, there[::-1], RK4(), Rng(0), divergence=divergence), known, 1e-5)


def test_both_branches_share_one_network_call() -> None:
    calls = []

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        calls.append(len(x))
        return x

    cfg(network, 3.0, nulls=NULLS)(X, T, LABEL)
    assert calls == [18]


def test_guidance_interval_skips_the_second_branch() -> None:
    calls = []

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        calls.append(len(x))
        return two_laws(VelocityPrediction(), Linear())(x, t, given)

    guided = cfg(network, 3.0, nulls=NULLS, interval=(0.4, 0.6))
    plain = two_laws(VelocityPrediction(), Linear())(X, T, LABEL)
    assert torch.equal(guided(X, T, LABEL), plain)
    assert calls == [9]
    times = torch.where(torch.arange(9) < 4, T, 0.5)
    mixed, everywhere = guided(X, times, LABEL), two_laws(VelocityPrediction(), Linear())(X, times, LABEL)
    assert torch.equal(mixed[:4], everywhere[:4])
    assert not torch.isclose(mixed[4:], everywhere[4:]).any()


def test_undropped_conditions_stay_in_both_branches() -> None:
    seen = {}

    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        seen.update(given)
        return x

    given = {**LABEL, "size": torch.arange(9.0)}
    cfg(network, 3.0, nulls={"label": 1, "size": -1.0})(X, T, given)
    assert seen["label"].tolist() == [0] * 9 + [1] * 9
    assert seen["size"].tolist() == [*range(9), *range(9)]


def test_guidance_of_trees() -> None:
    def network(x: dict[str, Tensor], t: dict[str, Tensor], given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: leaf + given["label"].reshape(-1, *(1,) * (leaf.ndim - 1)) for name, leaf in x.items()}

    x = {"a": X, "b": torch.zeros(9, 2, 2, dtype=F64)}
    guided = cfg(network, 3.0, nulls=NULLS)(x, {"a": T, "b": T}, LABEL)
    close(guided["a"], X - 2, 1e-14)
    close(guided["b"], torch.full((9, 2, 2), -2.0), 1e-14)


def test_guidance_nests() -> None:
    """w = 2 of w = 3 with one condition: (1 - 2) without + 2 (-2 without + 3 plain) = -5 without + 6 plain."""
    network = two_laws(VelocityPrediction(), Linear())
    nested = cfg(cfg(network, 3.0, nulls=NULLS), 2.0)(X, T, LABEL)
    close(nested, cfg(network, 6.0, nulls=NULLS)(X, T, LABEL), 1e-13)


def test_missing_null_values_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        cfg(two_laws(VelocityPrediction(), Linear()), 2.0)
    assert error.value.argument == "nulls"
    with refuses(UsageError, argument="nulls"):
        cfg(two_laws(VelocityPrediction(), Linear()), 2.0, droppable=("colour",), nulls=NULLS)


def test_drop_conditions_keeps_dtype_and_other_conditions() -> None:
    given = {"label": torch.tensor([0, 2]), "known": torch.tensor([[True], [False]])}
    without = drop_conditions(given, {"label": 3}, ("label",))
    assert without["label"].tolist() == [3, 3]
    assert without["label"].dtype == torch.long
    assert without["known"] is given["known"]


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=repr)
def test_classifier_guidance_is_exact_at_one(schedule: Schedule) -> None:
    """Data N(0, 1), observation y = x_1 + N(0, 0.5): the guided velocity is that of the posterior N(2 y / 3, 1 / 3)."""
    y, noise = 1.2, 0.5
    prior, posterior = Normal(schedule, 0.0, 1.0), Normal(schedule, y / (1 + noise), (noise / (1 + noise)) ** 0.5)

    def log_likelihood(x: Tensor, t: Tensor) -> Tensor:
        """Return log p(y | x_t), for x_1 normal given x_t."""
        scales = schedule(t)
        variance = scales.alpha**2 + scales.sigma**2
        mean = scales.alpha / variance * x[:, 0]
        spread = scales.sigma**2 / variance + noise
        return -((y - mean) ** 2) / (2 * spread)

    network = classifier_guidance(
        lambda x, t, given: prior.predict(VelocityPrediction(), x, t), log_likelihood, 1.0, schedule
    )
    close(network(X, T, {}), posterior.predict(VelocityPrediction(), X, T), 1e-13)
    off = classifier_guidance(
        lambda x, t, given: prior.predict(VelocityPrediction(), x, t), log_likelihood, 0.0, schedule
    )
    close(off(X, T, {}), prior.predict(VelocityPrediction(), X, T), 0.0)


def test_classifier_guidance_is_finite_at_the_source() -> None:
    network = classifier_guidance(lambda x, t, given: x, lambda x, t: -(x[:, 0] ** 2), 1.0, Linear())
    assert network(X, torch.zeros(9, dtype=F64), {}).isfinite().all()
    close(network(X, f64(*[1.0] * 9), {}), X, 0.0)


def test_token_classifier_guidance_is_the_conditional_posterior() -> None:
    """Two tokens of three symbols with a correlated law; y says whether they are equal. All 16 masked states."""
    joint = f64(*range(1, 10)).reshape(3, 3)
    joint, mask = joint / joint.sum(), 3
    equal = torch.eye(3, dtype=F64)

    def sums(x: Tensor, table: Tensor) -> Tensor:
        """Sum a table over the masked tokens of a state."""
        one = torch.cat([torch.eye(3, dtype=F64), torch.ones(1, 3, dtype=F64)])
        return torch.einsum("bi,bj,ij->b", one[x[:, 0]], one[x[:, 1]], table)

    def posterior(x: Tensor, table: Tensor) -> Tensor:
        rows = [
            torch.stack([sums(x.scatter(1, torch.full((len(x), 1), i), a), table) for a in range(3)], 1) for i in (0, 1)
        ]
        weights = torch.stack(rows, 1)
        return weights / weights.sum(-1, keepdim=True)

    x = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    hidden = (x == mask)[..., None]
    guided = token_classifier_guidance(
        lambda x, t, given: posterior(x, joint).log(),
        lambda x, t: (sums(x, joint * equal) / sums(x, joint)).log(),
        1.0,
        chunk_size=7,
    )
    found = guided(x, torch.zeros(len(x)), {}).softmax(-1)
    possible = (sums(x, joint * equal) > 0)[:, None, None] & hidden
    expected = posterior(x, joint * equal)
    close(torch.where(possible, found, 0.0), torch.where(possible, expected, 0.0), 1e-12)


def test_infinite_logits_of_the_unconditional_branch() -> None:
    def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        plain = (given["label"] == 0)[:, None]
        return torch.where(plain, torch.tensor([0.0, -torch.inf, 1.0]), torch.tensor([0.0, 1.0, -torch.inf]))

    found = cfg(network, 0.0, nulls=NULLS)(X, T, LABEL)
    assert torch.equal(found, network(X, T, {"label": torch.ones(9, dtype=torch.long)}))


def test_classifier_guidance_keeps_null_values() -> None:
    network = two_laws(VelocityPrediction(), Linear())
    network.null_values = NULLS
    assert cfg(token_classifier_guidance(network, lambda x, t: 0 * t, 1.0), 2.0).null_values == NULLS
    assert cfg(classifier_guidance(network, lambda x, t: 0 * t, 1.0, Linear()), 2.0).null_values == NULLS


@pytest.mark.parametrize("w", [torch.ones(4), torch.ones(9, 1)])
def test_weights_of_another_shape_are_refused(w: Tensor) -> None:
    network = two_laws(VelocityPrediction(), Linear())
    with refuses(ValueError, found=str(list(w.shape))):
        cfg(network, w, nulls=NULLS)(X, T, LABEL)
    each = torch.linspace(0, 3, 9, dtype=F64)
    close(
        cfg(network, each, nulls=NULLS)(X, T, LABEL)[2],
        cfg(network, each[2].item(), nulls=NULLS)(X, T, LABEL)[2],
        1e-14,
    )


def chain(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
    """Return a prediction that differs for each subset of the conditions a and b, which are NaN if dropped."""
    a, b = (given[name].nan_to_num(0.0)[:, None] for name in ("a", "b"))
    return x + a + 10 * b + 100 * a * b


PAIR = {"a": torch.full((9,), 2.0, dtype=F64), "b": torch.full((9,), 3.0, dtype=F64)}
NAN_NULLS = {"a": float("nan"), "b": float("nan")}


@pytest.mark.parametrize("weights", [{"a": 2.0, "b": 0.5}, {"b": 0.5, "a": 2.0}, {"a": 3.0}, {"a": 2.0, "b": 2.0}])
def test_weights_add_conditions_in_their_order(weights: dict[str, float]) -> None:
    current = {name: torch.full_like(value, float("nan")) if name in weights else value for name, value in PAIR.items()}
    expected = before = chain(X, T, current)
    for name, weight in weights.items():
        current = {**current, name: PAIR[name]}
        after = chain(X, T, current)
        expected, before = expected + weight * (after - before), after
    close(cfg(chain, weights, droppable=("a", "b"), nulls=NAN_NULLS)(X, T, PAIR), expected, 1e-12)


def test_weights_of_one_are_the_conditional_prediction() -> None:
    assert cfg(chain, {"a": 1.0, "b": 1.0}, droppable=("a", "b"), nulls=NAN_NULLS) is chain


def test_equal_weights_need_two_branches() -> None:
    sizes = []

    def counted(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        sizes.append(len(x))
        return chain(x, t, given)

    for weights in ({"a": 2.0, "b": 2.0}, {"a": 2.0, "b": 3.0}):
        cfg(counted, weights, droppable=("a", "b"), nulls=NAN_NULLS)(X, T, PAIR)
    assert sizes == [18, 27]


def test_weight_of_an_unknown_condition_is_refused() -> None:
    with refuses(UsageError, argument="guidance"):
        cfg(chain, {"c": 2.0}, droppable=("a", "b"), nulls=NAN_NULLS)


@pytest.mark.parametrize("w", [0.0, 1.0])
def test_weights_zero_and_one_are_a_branch_even_if_infinite(w: float) -> None:
    conditional, unconditional = torch.tensor([[-torch.inf, 1.0]]), torch.tensor([[0.0, -torch.inf]])
    for weight in (w, torch.tensor([w])):
        assert torch.equal(cfg_combine(conditional, unconditional, weight), conditional if w else unconditional)


@pytest.mark.parametrize(
    ("options", "argument"),
    [({"w": float("nan")}, "w"), ({"w": 2.0, "interval": (0.9, 0.2)}, "interval")],
)
def test_invalid_weights_and_intervals_are_refused(options: dict, argument: str) -> None:
    with refuses(UsageError, argument=argument):
        cfg(chain, droppable=("a", "b"), nulls=NAN_NULLS, **options)
