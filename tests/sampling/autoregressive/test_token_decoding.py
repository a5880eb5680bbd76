"""Decoding of token sequences, against exact probabilities."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import CausalTransformer
from feller.networks.sequence.causal_transformer import CausalTransformerNetwork
from feller.sampling.autoregressive.token_decoding import decode, log_likelihood
from feller.spaces.tokens import mask_until_end
from tests.errors import numbers, refuses
from tests.networks.checks import perturb_weights
from tests.sampling.autoregressive.readers import Counted

K = 3


def random_network(
    k: int = K, conditions: dict[str, int] | None = None, scale: float = 0.4
) -> CausalTransformerNetwork:
    """Return a float64 decoder with nonzero weights."""
    return perturb_weights(CausalTransformer(k, width=8, depth=1, heads=2).build((4,), conditions or {}, Rng(0)), scale)


def every_text(length: int, k: int = K) -> Tensor:
    return torch.tensor(list(itertools.product(range(k), repeat=length)))


def chi_square(drawn: Tensor, texts: Tensor, p: Tensor) -> float:
    """Return the chi-square statistic of the frequencies of texts, standardised."""
    counts = (drawn[:, None] == texts[None]).all(2).sum(0)
    assert counts.sum() == len(drawn)
    expected = len(drawn) * p
    statistic = ((counts - expected).square() / expected).sum().item()
    return (statistic - (len(p) - 1)) / math.sqrt(2 * (len(p) - 1))


def test_likelihoods_sum_to_one() -> None:
    network = random_network()
    texts = every_text(4)
    log_p = log_likelihood(network, texts, {})
    assert log_p.dtype == torch.float64
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_p.max() - log_p.min() > 1
    valid = torch.arange(4).expand(len(texts), 4) < 2
    torch.testing.assert_close(log_likelihood(network, texts, {}, valid), log_likelihood(network, texts[:, :2], {}))


def test_sequence_frequencies_equal_their_likelihood() -> None:
    """27 texts, 4,000 draws: beyond 6 standard deviations of chi-square once in about 1e5 seeds; the seed is fixed."""
    network = random_network()
    texts = every_text(3)
    drawn = decode(network, 4000, 3, {}, Rng(0))
    assert chi_square(drawn, texts, log_likelihood(network, texts, {}).exp()) < 6


def test_observed_tokens_are_kept_and_condition_later_ones() -> None:
    network = random_network()
    n, known = 4000, torch.zeros(4000, 4, dtype=torch.long)
    known[:, 0], known[:, 2] = 2, 1
    kept = torch.tensor([True, False, True, False]).expand(n, 4)
    drawn = decode(network, n, 4, {}, Rng(0), observed=(known, kept))
    assert (drawn[:, 0] == 2).all()
    assert (drawn[:, 2] == 1).all()
    texts = every_text(4)
    texts = texts[(texts[:, 0] == 2) & (texts[:, 2] == 1)]
    logits = network(texts, torch.zeros(len(texts)), {})
    log_p = -F.cross_entropy(logits.mT, texts, reduction="none")
    assert chi_square(drawn, texts, (log_p[:, 1] + log_p[:, 3]).exp()) < 6


def test_common_observed_prefixes_take_one_call() -> None:
    counted = Counted(random_network())
    known = torch.ones(2, 6, dtype=torch.long)
    kept = torch.arange(6).expand(2, 6) < torch.tensor([[4], [3]])
    drawn = decode(counted, 2, 6, {}, Rng(0), observed=(known, kept))
    assert len(counted.calls) == 3
    assert (drawn[kept] == 1).all()
    apart = torch.zeros(2, 6, dtype=torch.bool)
    apart[0, :4], apart[1, 1:3] = True, True
    assert (decode(counted, 2, 6, {}, Rng(0), observed=(known, apart))[apart] == 1).all()
    everything = decode(counted, 2, 6, {}, Rng(0), observed=(known, torch.ones_like(kept)))
    assert torch.equal(everything, known)


def test_sequences_do_not_depend_on_the_batch() -> None:
    network = random_network(conditions={"label": 2})
    given = {"label": torch.arange(300) % 3}
    whole = decode(network, 300, 5, given, Rng(3), eos_token_id=0)
    parts = [
        decode(network, b - a, 5, {"label": given["label"][a:b]}, Rng(3, first_example=a), eos_token_id=0)
        for a, b in ((0, 7), (7, 260), (260, 300))
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(decode(network, 300, 7, given, Rng(3), eos_token_id=0)[:, :5], whole)
    assert not torch.equal(decode(network, 300, 5, given, Rng(4), eos_token_id=0), whole)


def test_observed_tokens_do_not_change_other_samples() -> None:
    network = random_network()
    free = decode(network, 50, 6, {}, Rng(0))
    kept = torch.zeros(50, 6, dtype=torch.bool)
    kept[:, ::2] = True
    assert torch.equal(decode(network, 50, 6, {}, Rng(0), observed=(free, kept)), free)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_sequences_stop_at_eos(guidance: float) -> None:
    network = random_network(conditions={"label": 2})
    counted, given = Counted(network), {"label": torch.arange(64) % 2}
    free = decode(network, 64, 12, given, Rng(0), guidance_scale=guidance)
    drawn = decode(counted, 64, 12, given, Rng(0), eos_token_id=2, guidance_scale=guidance)
    within = mask_until_end(free, 2)
    assert torch.equal(drawn, torch.where(within, free, 2))
    alive = [64] + [int(within[:, i].sum()) for i in range(1, 12)]
    branches = 1 if guidance == 1 else 2
    assert [rows for rows, _ in counted.calls] == [branches * rows for rows in alive if rows]
    assert alive[-1] < 32


def test_sequences_do_not_end_before_observed_tokens() -> None:
    network, n = random_network(), 300
    known, kept = torch.full((n, 6), 1), torch.zeros(n, 6, dtype=torch.bool)
    kept[:, 3] = True
    drawn = decode(network, n, 6, {}, Rng(0), observed=(known, kept), eos_token_id=2)
    assert (drawn[:, :3] != 2).all()
    assert (drawn[:, 3] == 1).all()
    assert (drawn[:, 4] == 2).any()
    assert (drawn[drawn[:, 4] == 2, 5] == 2).all()
    p = network(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1), {})[0, 0].softmax(0)
    share = (drawn[:, 0] == 0).double().mean().item()
    wanted = (p[0] / (p[0] + p[1])).item()
    assert abs(share - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / n)  # fails once in 2e6 seeds


@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_guidance_mixes_log_probabilities(w: float) -> None:
    """Step by step (1 - w) log p without + w log p with; the choice sees them up to a constant."""
    network = random_network(conditions={"label": 2})
    label = torch.tensor([0, 1, 1])
    seen = []

    def most_likely(logits: Tensor, u: Tensor) -> Tensor:
        seen.append(logits.log_softmax(1))
        return logits.argmax(1)

    drawn = decode(network, 3, 4, {"label": label}, Rng(0), token_sampler=most_likely, guidance_scale=w)
    zero = torch.zeros(3)
    plain = network(drawn, zero, {"label": label}).log_softmax(2)
    without = network(drawn, zero, {"label": torch.full_like(label, 2)}).log_softmax(2)
    wanted = ((1 - w) * without + w * plain).log_softmax(2)
    torch.testing.assert_close(torch.stack(seen, 1), wanted)
    assert torch.equal(drawn, wanted.argmax(2))
    assert (plain - without).abs().max() > 0.01


def test_mask_until_end() -> None:
    x = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    wanted = [[True, True, False, False], [True, False, False, False], [True] * 4]
    assert mask_until_end(x, 0).tolist() == wanted


def test_empty_batches_and_sequences() -> None:
    network = random_network()
    assert decode(network, 3, 0, {}, Rng(0)).shape == (3, 0)
    assert decode(network, 0, 3, {}, Rng(0), eos_token_id=1).shape == (0, 3)


def test_invalid_inputs_are_refused() -> None:
    network = random_network()
    short = torch.zeros(2, 3, dtype=torch.long)
    with refuses(UsageError, found="(2, 3) and (2, 3)"):
        decode(network, 2, 4, {}, Rng(0), observed=(short, short == 0))
    short[1, 2] = K
    with refuses(UsageError) as caught:
        decode(network, 2, 3, {}, Rng(0), observed=(short, short >= 0))
    assert numbers(caught.value.found) == ["3", "2", "1"]
    assert decode(network, 2, 3, {}, Rng(0), observed=(short, short < K))[1, 2] < K
    with refuses(UsageError):
        decode(network, 2, 3, {}, Rng(0), guidance_scale=2.0)


def test_an_observed_eos_ends_the_sequence() -> None:
    known = torch.tensor([[1, 2, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    kept = torch.tensor([[True, True, False, False, False, False], [True, False, False, False, False, False]])
    network = random_network()
    for n in (1, 2):
        found = decode(network, n, 6, {}, Rng(0), observed=(known[:n], kept[:n]), eos_token_id=2)
        assert found[0].tolist() == [1, 2, 2, 2, 2, 2]
