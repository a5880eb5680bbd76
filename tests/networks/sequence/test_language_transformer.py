"""One transformer of language models with full, causal and block attention."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import AttentionPattern, BlockAttention, CausalAttention, FullAttention, LanguageTransformer
from feller.networks.sequence.language_attention import CLEAN, LOOKAHEAD
from feller.networks.sequence.language_transformer import LanguageTransformerNetwork
from tests.networks.checks import perturb_weights

K, N = 5, 11
REACHES = pytest.mark.parametrize("reach", [0, 3])


def random_network(attention: AttentionPattern, reach: int = 3) -> LanguageTransformerNetwork:
    config = LanguageTransformer(K, attention, width=16, depth=2, heads=2, reach=reach)
    return perturb_weights(config.build((N,), {"label": 3}, Rng(0)))


def batch(n: int = 3) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Return data tokens, tokens of which about half are masked, times, and conditions."""
    draw = Rng(2).stream("batch")
    x_1, label = draw.randint(K, (n, N)), draw.randint(4, (n,))
    return x_1, torch.where(draw.bernoulli(0.5, (n, N)), K, x_1), draw.uniform((n,), torch.float64), {"label": label}


def test_weights_do_not_depend_on_the_attention() -> None:
    states = [random_network(a).state_dict() for a in (FullAttention(), CausalAttention(), BlockAttention(4))]
    assert all(states[0].keys() == state.keys() for state in states)
    assert all(torch.equal(states[0][name], state[name]) for state in states for name in state)


def test_first_prediction_is_zero_and_padding_is_ignored() -> None:
    _, x_t, t, given = batch()
    new = LanguageTransformer(K, width=16, depth=2, heads=2).build((N,), {"label": 3}, Rng(0))
    assert not new(x_t, t.float(), given).any()
    network, valid = random_network(FullAttention()), torch.arange(N).expand(3, N) < 7
    logits = network(torch.where(valid, x_t, 0), t, given | {"valid": valid})
    torch.testing.assert_close(logits[:, :7], network(x_t[:, :7], t, given))
    assert torch.equal(network(x_t, 1 - t, given), network(x_t, t, given))


@REACHES
def test_one_block_of_the_whole_text_is_full_attention(reach: int) -> None:
    _, x_t, t, given = batch()
    network = random_network(FullAttention(), reach)
    logits = network(x_t, t, given)
    torch.testing.assert_close(random_network(BlockAttention(N), reach)(x_t, t, given), logits)
    # the last token matters for the first prediction
    other = torch.cat([x_t[:, :-1], (x_t[:, -1:] + 1) % K], 1)
    assert ((network(other, t, given) - logits)[:, 0].abs().amax(1) > 1e-6).all()


@pytest.mark.parametrize("size", [1, 3, 4])
@REACHES
def test_a_block_depends_on_its_noisy_tokens_and_earlier_clean_ones(size: int, reach: int) -> None:
    """Changes of single tokens change the logits of their own block (noisy) or of later blocks (clean) only."""
    x_1, x_t, t, given = batch()
    network = random_network(BlockAttention(size), reach)
    logits = network(x_t, t, given | {CLEAN: x_1})
    block = torch.arange(N) // size
    for j in range(N):
        noisy, clean = x_t.clone(), x_1.clone()
        noisy[:, j], clean[:, j] = (noisy[:, j] + 1) % K, (clean[:, j] + 1) % K
        by_noisy = (network(noisy, t, given | {CLEAN: x_1}) - logits).abs().amax((0, 2)) > 1e-9
        by_clean = (network(x_t, t, given | {CLEAN: clean}) - logits).abs().amax((0, 2)) > 1e-9
        assert torch.equal(by_noisy, block == block[j])
        assert torch.equal(by_clean, block > block[j])


@pytest.mark.parametrize("size", [1, 3, 4, N])
@REACHES
def test_cached_blocks_equal_the_full_pass(size: int, reach: int) -> None:
    x_1, x_t, t, given = batch()
    network = random_network(BlockAttention(size), reach)
    whole = network(x_t, t, given | {CLEAN: x_1})
    cache, inputs = network.init_cache(3, N + 1), torch.cat([torch.full((3, 1), network.bos_token_id), x_1], 1)
    for start in range(0, N, size):
        tokens = torch.cat([inputs[:, start : start + 1], x_t[:, start : start + size]], 1)
        for _ in range(2):  # the cache of the context is not changed
            logits = network.block_logits(tokens, cache, given)
            torch.testing.assert_close(logits, whole[:, start : start + size])
        _, cache = network.decode_step(inputs[:, start : start + size], cache, given)


@pytest.mark.parametrize("parts", [(1,) * N, (N,), (1, 4, 1, 5)])
@REACHES
def test_cached_causal_steps_equal_the_full_pass(parts: tuple[int, ...], reach: int) -> None:
    x_1, _, t, given = batch()
    network = random_network(CausalAttention(), reach)
    whole = network(x_1, t, given)
    cache, inputs = network.init_cache(3, N), torch.cat([torch.full((3, 1), network.bos_token_id), x_1], 1)
    place = 0
    for count in parts:
        logits, cache = network.decode_step(inputs[:, place : place + count], cache, given)
        place += count
        torch.testing.assert_close(logits, whole[:, place - 1])
    other = torch.cat([x_1[:, :5], (x_1[:, 5:6] + 1) % K, x_1[:, 6:]], 1)
    changes = (network(other, t, given) - whole).abs().amax((0, 2))
    assert (changes[:6] == 0).all()
    assert (changes[6:] > 1e-6).all()


def test_a_lookahead_of_zero_is_causal() -> None:
    """Weights of a causal model, whose later convolution taps are zero, give the same logits at the start."""
    x_1, _, t, given = batch()
    causal = random_network(CausalAttention())
    for layer in causal.layers:
        layer.conv.data[:, 4:] = 0
    for attention in (FullAttention(), BlockAttention(4)):
        network = random_network(attention)
        network.load_state_dict(causal.state_dict())
        none, all_ = torch.zeros(3, dtype=torch.long), torch.full((3,), N)
        logits = network(x_1, t, given | {LOOKAHEAD: none})
        torch.testing.assert_close(logits, causal(x_1, t, given))
        assert (network(x_1, t, given) - logits).abs().max() > 1e-3
        torch.testing.assert_close(network(x_1, t, given | {LOOKAHEAD: all_}), network(x_1, t, given))


def test_a_block_longer_than_the_text_is_an_error() -> None:
    with pytest.raises(UsageError) as error:
        LanguageTransformer(K, BlockAttention(12), width=16).build((N,), {}, Rng(0))
    assert error.value.argument == "block_size"
    with pytest.raises(UsageError):
        BlockAttention(0)
