"""Autoregressive network of histories: normalisation, padding, cached steps, gradients of persons."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.gradient import MeanGradient
from feller.core.rng import Rng
from feller.networks.sequence.history_transformer import HistoryTransformer
from feller.privacy.dp_sgd.ghost_clipping import clipped_by_ghost
from feller.privacy.dp_sgd.per_example_gradients import clipped_by_loop
from feller.sampling.autoregressive.history_decoding import decode_histories
from feller.spaces import CategoryTokenizer, DigitTokenizer, HistoryTokens, PairConstraint, TableTokens
from feller.spaces.history_tokens import RowKind
from feller.training.objectives.history_likelihood import HistoryLikelihood
from tests.errors import refuses
from tests.networks.checks import perturb_weights

ATTRIBUTES = TableTokens((CategoryTokenizer(3), CategoryTokenizer(2)), value_probs=((0.2, 0.5, 0.3), (0.7, 0.3)))
ROWS = TableTokens((CategoryTokenizer(3), CategoryTokenizer(2)), (PairConstraint(0, 1, ("11", "10", "01")),))
SPACE = HistoryTokens(ATTRIBUTES, ROWS, max_rows=2)
VALID_ROWS = [(0, 0), (0, 1), (1, 0), (2, 1)]


def every_history() -> Tensor:
    histories = [
        [length, attribute, *itertools.chain(*rows), *[0] * 2 * (2 - length)]
        for length in range(3)
        for attribute in range(2)
        for rows in itertools.product(VALID_ROWS, repeat=length)
    ]
    return torch.tensor(histories)


def network(space: HistoryTokens = SPACE, *, noise: float = 0.4) -> torch.nn.Module:
    return perturb_weights(HistoryTransformer(space, width=16).build((space.num_places,), {}, Rng(0)), noise)


def log_prob(made: torch.nn.Module, x: Tensor) -> Tensor:
    return made(x, torch.zeros(len(x)), {})


def test_probabilities_of_all_histories_sum_to_one() -> None:
    assert log_prob(network(), every_history()).exp().sum().item() == pytest.approx(1, abs=1e-10)


def test_a_new_network_has_independent_columns() -> None:
    space = HistoryTokens(ATTRIBUTES, TableTokens((CategoryTokenizer(2),), value_probs=((0.9, 0.1),)), 2)
    x = torch.tensor([[2, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]])
    expected = torch.tensor([0.3 * 0.3 * 0.9 * 0.1, 0.5 * 0.7 * 0.1, 0.2 * 0.7])
    assert torch.allclose(log_prob(network(space, noise=0.0), x).exp().float(), expected, rtol=1e-5)


def test_rows_after_the_end_do_not_count() -> None:
    made, x = network(), every_history()
    changed = x.clone()
    changed[x[:, 0] == 1, 4:] = torch.tensor([2, 0])  # not even a valid row
    changed[x[:, 0] == 0, 2:] = 1
    assert torch.equal(log_prob(made, changed), log_prob(made, x))
    alone = torch.cat([log_prob(made, row[None]) for row in x])
    assert torch.allclose(alone, log_prob(made, x), atol=1e-12)


def test_samples_follow_the_likelihood() -> None:
    """Total variation of 20,000 samples from 42 histories: 0.018 expected, above 0.03 with probability below 1e-9."""
    made, x = network(), every_history()
    counts = _counts(decode_histories(made, 20_000, Rng(1)), x)
    assert (counts / counts.sum() - log_prob(made, x).exp()).abs().sum() / 2 < 0.03


def test_samples_depend_on_their_index_only() -> None:
    made = network()
    many = decode_histories(made, 40, Rng(1))
    assert torch.equal(decode_histories(made, 7, Rng(1)), many[:7])
    assert torch.equal(decode_histories(made, 5, Rng(1, first_example=20)), many[20:25])


def test_observed_rows_are_conditioned_on() -> None:
    """The first column of the second row is given, and the attributes and all else follow by Bayes' rule."""
    made, x = network(), every_history()
    given = torch.zeros(4000, SPACE.num_places, dtype=torch.long)
    mask = torch.zeros_like(given, dtype=torch.bool)
    given[:, 0], given[:, 4], mask[:, [0, 4]] = 2, 1, True
    drawn = decode_histories(made, 4000, Rng(2), observed=(given, mask), num_candidates=64)
    assert (drawn[:, [0, 4]] == torch.tensor([2, 1])).all()
    weights = log_prob(made, x).exp() * ((x[:, 0] == 2) & (x[:, 4] == 1))
    counts = _counts(drawn, x)
    assert (counts / counts.sum() - weights / weights.sum()).abs().sum() / 2 < 0.03


def test_histories_without_observed_rows_do_not_depend_on_others() -> None:
    made = network()
    given = torch.zeros(6, SPACE.num_places, dtype=torch.long)
    mask = torch.zeros_like(given, dtype=torch.bool)
    given[:, 0], mask[:, 0] = 2, True
    given[:3, 4], mask[:3, 4] = 1, True
    given[3:, 2], mask[3:, 2] = 1, True
    together = decode_histories(made, 6, Rng(2), observed=(given, mask), num_candidates=8)
    assert torch.equal(
        decode_histories(made, 3, Rng(2), observed=(given[:3], mask[:3]), num_candidates=8), together[:3]
    )
    last = decode_histories(made, 3, Rng(2, first_example=3), observed=(given[3:], mask[3:]), num_candidates=8)
    assert torch.equal(last, together[3:])


def test_observed_attributes_are_conditioned_on() -> None:
    made, x = network(), every_history()
    given = torch.zeros(4000, SPACE.num_places, dtype=torch.long)
    mask = torch.zeros_like(given, dtype=torch.bool)
    given[:, 1], mask[:, 1] = 1, True
    drawn = decode_histories(made, 4000, Rng(2), observed=(given, mask), num_candidates=1)
    weights = log_prob(made, x).exp() * (x[:, 1] == 1)
    counts = _counts(drawn, x)
    assert (counts / counts.sum() - weights / weights.sum()).abs().sum() / 2 < 0.06


def test_observed_rows_need_a_number_of_rows() -> None:
    given = torch.zeros(2, SPACE.num_places, dtype=torch.long)
    mask = torch.zeros_like(given, dtype=torch.bool)
    mask[:, 4] = True
    with refuses(UsageError, argument="observed"):
        decode_histories(network(), 2, Rng(0), observed=(given, mask))


def test_clipped_gradients_of_persons_equal_a_loop() -> None:
    space = HistoryTokens(ATTRIBUTES, TableTokens((CategoryTokenizer(3), DigitTokenizer(7, 22))), 3, 1)
    made, objective = network(space), HistoryLikelihood(space)
    x = space.sample_base(9, Rng(3).stream("histories"))
    example = objective.draw({"x_1": x}, Rng(1), made)
    found = clipped_by_ghost(objective.loss, made, example, 0.5)
    expected = clipped_by_loop(objective.loss, made, example, 0.5)
    assert torch.allclose(found.norms, expected.norms, rtol=1e-10)
    assert found.norms.min() > 0.5
    for name, value in expected.sums.items():
        assert torch.allclose(found.sums[name], value, rtol=1e-9, atol=1e-12), name


KIND_ROWS = TableTokens((CategoryTokenizer(2), CategoryTokenizer(2), CategoryTokenizer(3)))
KINDS = HistoryTokens(
    TableTokens((CategoryTokenizer(3), CategoryTokenizer(2))),
    KIND_ROWS,
    max_rows=2,
    kinds=(RowKind((1,), (0, 1)), RowKind((2,), (1,), is_first=False)),
)
"""Orders, of which the first column is known, and items, of which the second is; items follow orders."""


def every_history_of_kinds() -> Tensor:
    orders, items = [(0, value, 0) for value in range(2)], [(1, 0, value) for value in range(3)]
    ways = [(), *((row,) for row in orders), *itertools.product(orders, [*orders, *items])]
    return torch.tensor(
        [[len(way), a, *itertools.chain(*way), *[0] * 3 * (2 - len(way))] for way in ways for a in range(2)]
    )


def test_kinds_of_rows_follow_each_other() -> None:
    """All histories with items after orders have probability 1; samples are among them, with these probabilities."""
    made, x = network(KINDS), every_history_of_kinds()
    probs = log_prob(made, x).exp()
    assert probs.sum().item() == pytest.approx(1, abs=1e-10)
    drawn = decode_histories(made, 20_000, Rng(1))
    counts = _counts(drawn, x)  # fails for any other history
    assert (counts / counts.sum() - probs).abs().sum() / 2 < 0.03
    other = x.clone()
    other[:, 4] = torch.where(other[:, 0] > 0, 2, other[:, 4])  # not a column of orders
    assert torch.equal(log_prob(made, other), log_prob(made, x))


def test_observed_kinds_are_conditioned_on() -> None:
    made, x = network(KINDS), every_history_of_kinds()
    given = torch.zeros(4000, KINDS.num_places, dtype=torch.long)
    mask = torch.zeros_like(given, dtype=torch.bool)
    given[:, 0], given[:, 7], mask[:, [0, 7]] = 2, 2, True
    given[:, 5], mask[:, 5] = 1, True
    drawn = decode_histories(made, 4000, Rng(2), observed=(given, mask), num_candidates=64)
    weights = log_prob(made, x).exp() * ((x[:, 0] == 2) & (x[:, 5] == 1) & (x[:, 7] == 2))
    counts = _counts(drawn, x)
    assert (counts / counts.sum() - weights / weights.sum()).abs().sum() / 2 < 0.03


@pytest.mark.parametrize("space", [SPACE, KINDS])
def test_gradients_of_joined_rows_equal_those_of_single_examples(space: HistoryTokens) -> None:
    """The mean gradient computes the rows of all examples together, without padding."""
    made, objective = network(space), HistoryLikelihood(space)
    x = every_history() if space is SPACE else every_history_of_kinds()
    example = objective.draw({"x_1": x}, Rng(1), made)
    MeanGradient()(objective.loss, made, [example], float(len(x)))
    found = {name: weight.grad.clone() for name, weight in made.named_parameters() if weight.grad is not None}
    expected = clipped_by_loop(objective.loss, made, example, 1e9)
    ghost = clipped_by_ghost(objective.loss, made, example, 1e9)
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected.sums[name] / len(x), rtol=1e-9, atol=1e-12), name
        assert torch.allclose(ghost.sums[name], expected.sums[name], rtol=1e-9, atol=1e-12), name


def test_wrong_spaces_are_refused() -> None:
    with refuses(UsageError):
        replace(KINDS, kinds=KINDS.kinds[:1])
    with refuses(UsageError):
        replace(KINDS, kinds=KINDS.kinds[::-1])
    with refuses(UsageError):
        HistoryTokens(ATTRIBUTES, ROWS, max_rows=3)  # 3 numbers of rows
    with refuses(UsageError):
        HistoryTokens(TableTokens((CategoryTokenizer(2),)), ROWS, max_rows=1)
    with refuses(UsageError):
        HistoryTransformer(SPACE).build((4,), {}, Rng(0))
    with refuses(UsageError, argument="marginals_budget"):
        HistoryLikelihood(SPACE, marginals_budget=1.0)


def _counts(drawn: Tensor, x: Tensor) -> Tensor:
    index = {tuple(row): i for i, row in enumerate(x.tolist())}
    return torch.bincount(torch.tensor([index[tuple(row)] for row in drawn.tolist()]), minlength=len(x)).double()


def test_groups_of_similar_length_have_the_same_clipped_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms of persons and their clipped sum agree with the uncropped batch, and with one person at a time."""
    monkeypatch.setattr("feller.spaces.history_tokens.GROUP_COST", 5)
    space = HistoryTokens(
        replace(ATTRIBUTES, columns=(CategoryTokenizer(9), CategoryTokenizer(2)), value_probs=()), ROWS, 8
    )
    made, objective = network(space), HistoryLikelihood(space)
    x = space.sample_base(24, Rng(3).stream("base"))
    x[:, 0] = torch.arange(24) % 9
    x = space.join(*space.split(x))
    example = objective.draw({"x_1": x}, Rng(0))
    index = space.similar_lengths(example["x_t"])
    groups = objective.similar_examples(example)
    assert torch.equal(torch.cat(index).sort().values, torch.arange(24))
    assert len({group["x_t"].shape[1] for group in groups}) == len(groups) > 2
    dense = clipped_by_loop(objective.loss, made, example, 1.0)
    norms, sums = (
        torch.zeros(24, dtype=dense.norms.dtype),
        {name: torch.zeros_like(v) for name, v in dense.sums.items()},
    )
    for rows, group in zip(index, groups, strict=True):
        found = clipped_by_ghost(objective.loss, made, group, 1.0)
        norms[rows] = found.norms
        for name, value in found.sums.items():
            sums[name] += value
    assert (dense.norms > 1).any()
    assert torch.allclose(norms, dense.norms, rtol=1e-9)
    for name, value in dense.sums.items():
        assert torch.allclose(sums[name], value, atol=1e-9), name
