"""Bounds of block diffusion against exact likelihoods."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import BlockAttention, FullAttention, LanguageTransformer
from feller.spaces import MaskSource, Tokens
from feller.training.objectives.block_diffusion import BlockDiffusion, mask_blocks, starts_before_end
from tests.sampling.block_chain import ExactBlocks, random_probs

K, N = 3, 5
SPACE = Tokens(K, (N,), MaskSource())


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_bound_of_the_exact_posterior_is_the_likelihood(size: int) -> None:
    """The mean of 20,000 estimates is -log p within five standard errors; blocks of one token have no variance."""
    probs, x = random_probs(K, N), torch.tensor([0, 2, 1, 1, 0])
    network, objective = ExactBlocks(probs, size), BlockDiffusion(SPACE)
    example = objective.draw({"x_1": x.expand(20_000, N)}, Rng(1), network)
    nats = objective.loss(network, example).double() * N
    truth = -probs[tuple(x)].log()
    if size == 1:
        torch.testing.assert_close(nats, truth.expand_as(nats), rtol=1e-5, atol=0)
    else:
        assert abs(nats.mean() - truth) < 5 * nats.std() / len(nats) ** 0.5
        assert nats.std() > 0.1


@pytest.mark.parametrize(("n", "size"), [(1, 1), (5, 2), (6, 3), (7, 7), (0, 2)])
def test_masked_tokens_of_blocks(n: int, size: int) -> None:
    """Each block has 1 to m masks, each number equally often (false alarm 1e-6), with the weight m / k."""
    count = 12_000
    x_1 = Rng(0).stream("x").randint(K, (count, n))
    u = Rng(0).stream("u").uniform((count,), torch.float64)
    x_t, weight = mask_blocks(x_1, u, size, K, Rng(1).stream("path"))
    assert torch.equal(torch.where(x_t == K, x_1, x_t), x_1)
    assert torch.equal(x_t == K, weight > 0)
    for start in range(0, n, size):
        block = slice(start, min(start + size, n))
        m, k = block.stop - start, (x_t[:, block] == K).sum(1)
        counts = k.bincount(minlength=m + 1)
        assert counts[0] == 0
        assert ((counts[1:] - count / m).abs() < 5.5 * (count / m) ** 0.5).all()
        torch.testing.assert_close(weight[:, block].amax(1), m / k.double())
        masked_share = (x_t[:, block] == K).double().mean(0)
        assert ((masked_share - (m + 1) / (2 * m)).abs() < 0.03).all()


def test_blocks_after_the_end_are_ignored() -> None:
    x_1 = torch.tensor([[0, 2, 2, 2, 2], [0, 0, 0, 2, 2], [0, 0, 0, 0, 2], [2, 2, 2, 2, 2], [0, 0, 0, 0, 0]])
    expected = [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert starts_before_end(x_1, 2, 2).tolist() == expected
    objective, network = BlockDiffusion(SPACE, eos_token_id=2), ExactBlocks(random_probs(K, N), 2)
    example = objective.draw({"x_1": x_1}, Rng(0), network)
    assert torch.equal(example["weight"] > 0, (example["x_t"] == K) & (torch.tensor(expected) > 0))


def test_clean_tokens_reach_the_network_and_the_loss_is_per_example() -> None:
    network = LanguageTransformer(K, BlockAttention(2), width=8, depth=1, heads=2).build((N,), {}, Rng(0))
    objective, x_1 = BlockDiffusion(SPACE), Rng(0).stream("x").randint(K, (6, N))
    example = objective.draw({"x_1": x_1}, Rng(1), network)
    seen: dict[str, Tensor] = {}

    def spy(x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        seen.update(cond)
        return network(x_t, t, cond)

    loss = objective.loss(spy, example)
    assert torch.equal(seen["clean"], x_1)
    one = {name: value[:1] if isinstance(value, Tensor) else value for name, value in example.items()}
    torch.testing.assert_close(objective.loss(network, one), loss[:1])


def test_networks_without_block_attention_are_refused() -> None:
    network = LanguageTransformer(K, FullAttention(), width=8, depth=1, heads=2).build((N,), {}, Rng(0))
    for other in (network, None):
        with pytest.raises(UsageError) as error:
            BlockDiffusion(SPACE).draw({"x_1": torch.zeros(2, N, dtype=torch.long)}, Rng(0), other)
        assert error.value.argument == "attention"
    with pytest.raises(UsageError):
        BlockDiffusion(SPACE, cond_dropout=2.0)
