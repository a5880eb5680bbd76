"""Samples of block diffusion: their distribution, cache, end of texts, templates and guidance."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.models.families.block_diffusion_model import BlockDiffusionModel
from feller.models.families.model_family import LogProbRequest, PartialObservation, SampleRequest
from feller.networks import BlockAttention, LanguageTransformer
from feller.networks.sequence.language_attention import CLEAN
from feller.paths import ConfidenceOrder, TokenSampler
from feller.sampling.autoregressive.block_decoding import CachedBlocks
from feller.sampling.guidance import cfg_combine
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource, Tokens
from tests.networks.checks import perturb_weights
from tests.sampling.block_chain import ExactBlocks, random_probs

K, N = 3, 4
MODEL = BlockDiffusionModel()


def request(n: int, **more: Any) -> SampleRequest:
    fields = {"n": n, "space": Tokens(K, (N,), MaskSource()), "sampling": SamplerConfig("euler", 200), **more}
    return SampleRequest(**fields)


def total_variation(samples: Tensor, probs: Tensor) -> float:
    counts = torch.zeros_like(probs)
    counts.index_put_(tuple(samples.T), torch.ones(len(samples), dtype=probs.dtype), accumulate=True)
    return float((counts / len(samples) - probs).abs().sum() / 2)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_samples_follow_the_distribution(size: int) -> None:
    """With many steps, the total variation of 20,000 samples is that of exact samples: about .02 for 81 states."""
    probs = random_probs(K, N)
    _, x = MODEL.sample(ExactBlocks(probs, size), request(20_000), Rng(0))
    assert total_variation(x, probs) < 0.035


def test_templates_condition_on_the_tokens_before_and_in_a_block() -> None:
    """An observed prefix and a token inside a block give exact conditional samples; observed tokens are kept."""
    probs, values, mask = random_probs(K, N), torch.tensor([1, 0, 0, 2]), torch.tensor([True, False, False, True])
    observed = PartialObservation(values.expand(20_000, N), mask.expand(20_000, N))
    _, x = MODEL.sample(ExactBlocks(probs, 4), request(20_000, observed=observed), Rng(0))
    assert torch.equal(x[:, mask], values[mask].expand(20_000, 2))
    exact = torch.zeros_like(probs)
    exact[1, :, :, 2] = probs[1, :, :, 2] / probs[1, :, :, 2].sum()
    assert total_variation(x, exact) < 0.03
    network = ExactBlocks(probs, 2)
    prefix = PartialObservation(values.expand(5, N), torch.tensor([True, True, False, False]).expand(5, N))
    MODEL.sample(network, request(5, observed=prefix, sampling=SamplerConfig("euler", 2)), Rng(0))
    assert network.num_evaluated == 5  # the first block is read, not sampled
    with pytest.raises(UsageError):
        MODEL.sample(network, request(5, observed=replace(prefix, values=prefix.values + 3)), Rng(0))


def test_texts_that_end_are_filled_and_not_evaluated() -> None:
    """Token 2 ends a text: it fills the rest, and finished texts cost no evaluation; open ones are unchanged."""
    probs = random_probs(K, N)
    plain, ended = ExactBlocks(probs, 1), ExactBlocks(probs, 1)
    sampling = SamplerConfig("euler", 4)
    _, whole = MODEL.sample(plain, request(2_000, sampling=sampling), Rng(0))
    _, x = MODEL.sample(ended, request(2_000, sampling=sampling, eos_token_id=2), Rng(0))
    is_after = (whole == 2).cumsum(1) > 0
    assert torch.equal(x, whole.masked_fill(is_after, 2))
    num_open = 2_000 + int((~is_after[:, :3]).sum())
    assert ended.num_evaluated == num_open < plain.num_evaluated == 8_000
    mask = torch.tensor([False, False, True, False]).expand(500, N)
    _, x = MODEL.sample(
        ExactBlocks(probs, 3),
        request(500, observed=PartialObservation(torch.ones(500, N, dtype=torch.long), mask), eos_token_id=2),
        Rng(0),
    )
    assert (x[:, :2] != 2).all()  # a text does not end before an observed token
    assert (x[:, 2] == 1).all()
    assert (x[:, 3] == 2).any()


def real_network(size: int, conditions: dict[str, int]) -> Any:
    config = LanguageTransformer(K, BlockAttention(size), width=16, depth=2, heads=2, reach=2)
    return perturb_weights(config.build((N,), conditions, Rng(0)))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_cached_logits_are_those_of_the_full_pass(size: int) -> None:
    """Two copies of the batch with different conditions, of which sequences finish one after another."""
    network, n = real_network(size, {"label": 3}), 5
    x_1 = Rng(1).stream("x").randint(K, (n, N))
    cond = {"label": torch.arange(2 * n) % 4}
    blocks, rows, t = CachedBlocks(network, x_1), torch.arange(n), torch.zeros(2 * n)
    twice = x_1.repeat(2, 1)
    whole = network(torch.full_like(twice, K), t, {**cond, CLEAN: twice})
    for start in range(0, N, size):
        rows = rows[rows != start]  # row 0 finishes before the first block
        blocks.move_to(start, rows)
        block = slice(start, start + size)
        logits = blocks(torch.full_like(twice[:, block], K), t, cond)
        open_rows = torch.cat([rows, n + rows])
        torch.testing.assert_close(logits[open_rows], whole[open_rows, block])
        one = blocks(torch.full_like(x_1[:, block], K), t[:n], {"label": cond["label"][:n]})
        torch.testing.assert_close(one[rows], whole[rows, block])


def test_samples_do_not_depend_on_the_batch() -> None:
    network, sampling = real_network(2, {}).eval(), SamplerConfig("euler", 8)
    _, whole = MODEL.sample(network, request(6, sampling=sampling, eos_token_id=2), Rng(3))
    _, part = MODEL.sample(network, request(2, sampling=sampling, eos_token_id=2), Rng(3, first_example=4))
    assert torch.equal(whole[4:], part)


def test_guidance_combines_two_caches() -> None:
    """Guided logits of the first block are the combination of both branches; greedy samples take their mode."""
    network = real_network(2, {"label": 3}).eval()
    label = torch.tensor([0, 1, 2])
    sampling = SamplerConfig("euler", 2, TokenSampler(temperature=0.0))
    guided = request(3, sampling=sampling, cond={"label": label}, guidance=2.5, droppable=("label",))
    _, x = MODEL.sample(network, guided, Rng(0))
    clean = torch.full((3, N), K)
    conditional, null = (network(clean, torch.zeros(3), {"label": value}) for value in (label, torch.full((3,), 3)))
    assert torch.equal(x[:, :2], cfg_combine(conditional, null, 2.5)[:, :2].argmax(2))
    clean = torch.cat([x[:, :2], clean[:, 2:]], 1)
    conditional, null = (
        network(clean, torch.zeros(3), {"label": value, CLEAN: x}) for value in (label, torch.full((3,), 3))
    )
    assert torch.equal(x[:, 2:], cfg_combine(conditional, null, 2.5)[:, 2:].argmax(2))


def test_order_and_progress() -> None:
    """With an order by confidence and one step per token, each step reveals one token of the current block."""
    seen: list[tuple[float, int]] = []
    fractions: list[float] = []
    asked = request(
        2,
        sampling=SamplerConfig("euler", 4, unmasking_order=ConfidenceOrder()),
        on_step=lambda t, x: seen.append((t, int((x == K).sum()))),
        on_progress=fractions.append,
    )
    MODEL.sample(ExactBlocks(random_probs(K, N), 2), asked, Rng(0))
    assert seen == [(0.0, 8), (0.25, 6), (0.5, 4), (0.5, 4), (0.75, 2), (1.0, 0)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_too_few_evaluations_and_other_solvers_are_refused() -> None:
    network = ExactBlocks(random_probs(K, N), 1)
    with pytest.raises(UsageError) as error:
        MODEL.sample(network, request(1, sampling=SamplerConfig("euler", 3)), Rng(0))
    assert error.value.argument == "nfe"
    with pytest.raises(UsageError):
        MODEL.check_request(request(1, sampling=SamplerConfig("midpoint", 8)))


def test_bounds_of_the_exact_posterior() -> None:
    """The bounds of all 81 sequences equal -log p within five standard errors on average over the sequences."""
    probs = random_probs(K, N)
    states = torch.tensor(list(product(range(K), repeat=N)))
    asked = LogProbRequest(x_1=states, cond={}, space=Tokens(K, (N,), MaskSource()), times=64)
    value, std_err = MODEL.log_prob(ExactBlocks(probs, 2), asked, Rng(0))
    error = value - probs.flatten().log()
    assert (error.abs() < 6 * std_err + 1e-9).all()
    assert abs(error.mean()) < 5 * std_err.square().mean().sqrt() / 9
    exact = MODEL.log_prob(ExactBlocks(probs, 1), asked, Rng(0)).value
    torch.testing.assert_close(exact, probs.flatten().log())
