"""Frame infilling network: size, formulas of its parts, padding and conditions."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import (
    AdaLNZero,
    ALiBi,
    FrameInfiller,
    NoTimeConditioning,
    PositionEncoding,
    Rotary,
    TimeConditioning,
    TimeToken,
    count_parameters,
)
from feller.networks.audio.frame_infiller import (
    CONV_GROUPS,
    KERNEL_SIZE,
    FrameInfillerNetwork,
    GroupedEmbedding,
    SkipTransformer,
)
from feller.networks.blocks.relative_positions import alibi_slopes
from feller.networks.blocks.time_conditioning import TransformerBlock
from feller.sampling.guidance import cfg
from tests.errors import refuses
from tests.networks.checks import check_learning, check_record, check_seed, perturb_weights
from tests.oracle import close

F64 = torch.float64
K, BANDS = 5, 3
KINDS = {
    "paper": FrameInfiller(16, 4, 2),
    "rotary": FrameInfiller(16, 3, 2, position_encoding=Rotary()),
    "adanorm": FrameInfiller(16, 2, 2, AdaLNZero(), Rotary()),
    "no time": FrameInfiller(16, 2, 2, NoTimeConditioning()),
    "kin": FrameInfiller(16, 2, 2, group_size=2),
    "local": FrameInfiller(16, 2, 2, conv_channels=3),
}
every = pytest.mark.parametrize("architecture", KINDS.values(), ids=KINDS)
timed = pytest.mark.parametrize("architecture", [KINDS[name] for name in ("paper", "rotary", "adanorm")])


def random_network(architecture: FrameInfiller) -> FrameInfillerNetwork:
    return perturb_weights(architecture.build((7, BANDS), {"phone": K}, Rng(0)))


def batch(b: int, n: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    draw = Rng(2).stream("batch")
    known = draw.uniform((b, n)) < 0.4
    context = draw.normal((b, n, BANDS), F64) * known[:, :, None]
    given = {"phone": draw.randint(K, (b, n)), "context": context, "known": known}
    return draw.normal((b, n, BANDS), F64), draw.uniform((b,), F64), given


def cut(given: dict[str, Tensor], rows: slice, n: int) -> dict[str, Tensor]:
    return {name: value[rows, :n] for name, value in given.items()}


def test_parameter_counts_of_the_paper() -> None:
    """330 million for sound; 28 and 34 million for durations of one and of six languages."""
    for width, depth, heads, bands, expected in (
        (1024, 24, 16, 80, 330e6),
        (512, 8, 8, 1, 28e6),
        (512, 10, 8, 1, 34e6),
    ):
        with torch.device("meta"):
            network = FrameInfillerNetwork(FrameInfiller(width, depth, heads), bands, 40)
        assert count_parameters(network) == pytest.approx(expected, rel=0.02 if bands > 1 else 0.03)


def test_from_size() -> None:
    for dial in (2, 3, 4, 6):
        built = FrameInfiller.from_size(dial)
        assert (built.width, built.depth, built.heads) == (32 * dial, dial, dial)
        size = count_parameters(built.build((9, 40), {"phone": 40}, Rng(0)))
        assert size == pytest.approx(14_000 * dial**3, rel=0.3)


@every
def test_a_new_network_predicts_zero_and_learns_in_all_its_weights(architecture: FrameInfiller) -> None:
    x_t, t, given = batch(8, 40)
    given["phone"][0, :2] = K
    network = architecture.build((40, BANDS), {"phone": K}, Rng(0)).double()
    assert not network(x_t, t, given).any()
    wanted = given["context"].flip(1) + t[:, None, None]
    check_learning(network, lambda: (network(x_t, t, given) - wanted).square().mean())


def test_grouped_embeddings_start_equal() -> None:
    """Of labels 0 to 6, kin are 1 to 3 and 4 to 6; 0 and "not given", which is 7, are alone."""
    embed = GroupedEmbedding(7, 3, 4).double()
    first = embed(torch.arange(8)[None])[0]
    same = [[i for i in range(8) if torch.equal(first[i], first[j])] for j in range(8)]
    assert same == [[0], *[[1, 2, 3]] * 3, *[[4, 5, 6]] * 3, [7]]
    embed.individual.weight.data[2] += 1
    close(embed(torch.tensor([[2]]))[0, 0], first[1] + 1, 0)
    assert torch.equal(embed(torch.tensor([[1, 3]]))[0], first[[1, 3]])


def test_grouped_embeddings_share_what_they_learn() -> None:
    """The shared part follows both labels that are learned, each own part one: two thirds of the way are shared."""
    embed = GroupedEmbedding(7, 3, 4).double()
    before = embed(torch.tensor([[3]]))[0, 0].detach()
    optimiser = torch.optim.SGD(embed.parameters(), 0.1)
    for _ in range(50):
        optimiser.zero_grad()
        (embed(torch.tensor([[1, 2]])) - 1).square().sum().backward()
        optimiser.step()
    learned = embed(torch.tensor([[1, 3]]))[0]
    close(learned[0], torch.ones(4, dtype=F64), 1e-6)
    close(learned[1], before + (1 - before) * 2 / 3, 1e-6)


@pytest.mark.parametrize(("local", "within"), [(0, (0.6, 1.1)), (4, (0.0, 0.05))])
def test_conv_channels_pass_the_noise_of_the_state(local: int, within: tuple[float, float]) -> None:
    """Of 24 bands of noise, 8 features carry 8, so that two thirds of the variance are left; the bound is generous."""
    network = FrameInfiller(8, 1, 1, conv_channels=local).build((20, 24), {"phone": 2}, Rng(0))
    optimiser = torch.optim.Adam(network.parameters(), 0.03)
    for step in range(150):
        draw = Rng(0).stream("noise", step)
        x_t, t = draw.normal((8, 20, 24)), draw.uniform((8,))
        given = {"phone": torch.zeros(8, 20, dtype=torch.long), "context": torch.zeros_like(x_t)}
        loss = (network(x_t, t, given) - x_t).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert within[0] < loss.item() < within[1]


@pytest.mark.parametrize(("clock", "local"), [(TimeToken(), -1), (NoTimeConditioning(), 2)])
def test_conv_channels_need_time_conditioning(clock: TimeConditioning, local: int) -> None:
    with refuses(UsageError):
        FrameInfiller(16, 2, 2, clock, conv_channels=local)


@every
def test_seeds_and_records(architecture: FrameInfiller) -> None:
    check_record(architecture)
    check_seed(lambda seed: architecture.build((7, 3), {"phone": K}, Rng(seed)))


@every
def test_device_and_dtype_follow_the_inputs(architecture: FrameInfiller) -> None:
    x_t, t, given = batch(2, 6)
    network = random_network(architecture)
    assert network(x_t.float(), t.float(), given).dtype == F64
    away = network.to("meta")(x_t.to("meta"), t.to("meta"), {name: value.to("meta") for name, value in given.items()})
    assert away.shape == x_t.shape
    assert away.device.type == "meta"


@pytest.mark.parametrize("filling", [0.0, 1e9, math.nan])
@pytest.mark.parametrize("length", [1, 3, 20])
@every
def test_padding_changes_nothing(architecture: FrameInfiller, length: int, filling: float) -> None:
    """Whatever it holds and however long it is; a convolution of 31 frames reaches from any of these into it."""
    network, (x_t, t, given) = random_network(architecture), batch(3, 25)
    valid = torch.arange(25) < torch.tensor([[25], [length], [length]])
    wide = valid[:, :, None]
    filled = {
        "phone": given["phone"].where(valid, -7),
        "context": given["context"].where(wide, filling),
        "known": given["known"] | ~valid,
        "valid": valid,
    }
    padded = network(x_t.where(wide, filling), t, filled)
    close(padded[1:, :length], network(x_t[1:, :length], t[1:], cut(given, slice(1, 3), length)), 1e-12)
    close(padded[:1], network(x_t[:1], t[:1], cut(given, slice(0, 1), 25)), 1e-12)
    assert (padded[1:, length:] == 0).all()


@every
def test_all_padding_gives_finite_gradients(architecture: FrameInfiller) -> None:
    network, (x_t, t, given) = random_network(architecture), batch(2, 4)
    valid = torch.tensor([[True] * 4, [False] * 4])
    answer = network(x_t, t, {**given, "valid": valid})
    answer.square().sum().backward()
    assert answer.isfinite().all()
    assert not answer[1].any()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in network.parameters())


@every
def test_rows_are_independent(architecture: FrameInfiller) -> None:
    network, (x_t, t, given) = random_network(architecture), batch(4, 6)
    answer, order = network(x_t, t, given), torch.tensor([2, 0, 3, 1])
    turned = {name: value[order] for name, value in given.items()}
    close(network(x_t[order], t[order], turned), answer[order], 1e-12)


@timed
def test_output_depends_on_every_input(architecture: FrameInfiller) -> None:
    network, (x_t, t, given) = random_network(architecture), batch(2, 6)
    given["known"][0, 3] = False
    plain = network(x_t, t, given)
    x_2, t_2 = x_t.clone(), t.clone()
    x_2[0, 3], t_2[0] = 2.0, 0.9
    phone, context, known = (given[name].clone() for name in ("phone", "context", "known"))
    phone[0, 3], context[0, 3], known[0, 3] = (phone[0, 3] + 1) % K, 2.0, True
    for other in (
        network(x_2, t, given),
        network(x_t, t_2, given),
        *(network(x_t, t, {**given, **part}) for part in ({"phone": phone}, {"context": context}, {"known": known})),
    ):
        assert ((other - plain)[0].abs().amax(1) > 1e-6).all()
        close(other[1], plain[1], 1e-12)


def test_no_time_conditioning_ignores_the_state() -> None:
    network, (x_t, t, given) = random_network(KINDS["no time"]), batch(2, 6)
    assert torch.equal(network(x_t, t, given), network(x_t + 1, t / 2, given))
    plain = FrameInfiller(16, 2, 2).build((7, 3), {"phone": K}, Rng(0))
    assert plain.embed.in_features - network.embed.in_features == 3


def test_missing_known_mask_means_nothing_is_known() -> None:
    network, (x_t, t, given) = random_network(KINDS["paper"]), batch(2, 6)
    nothing = {**given, "known": torch.zeros_like(given["known"])}
    unmarked = {name: value for name, value in given.items() if name != "known"}
    assert torch.equal(network(x_t, t, unmarked), network(x_t, t, nothing))


def test_alibi_slopes_of_the_paper() -> None:
    """Eight heads: 1/2, 1/4, ... 1/256, as Press et al. print them."""
    close(alibi_slopes(8, torch.zeros(1, dtype=F64)), [2.0**-h for h in range(1, 9)], 1e-15)


def test_alibi_attention_formula() -> None:
    b, heads, tokens, n, size = 2, 2, 1, 5, 4
    draw = Rng(3).stream("parts")
    query, key, value = (draw.normal((b, heads, tokens + n, size), F64) for _ in range(3))
    seen = torch.ones(b, tokens + n, dtype=torch.bool)
    seen[1, 4:] = False
    found = ALiBi().make_attention(seen, torch.zeros(b, tokens + n, heads * size, dtype=F64), heads, tokens)(
        query, key, value
    )
    for row in range(b):
        for head, slope in enumerate((2.0**-4, 2.0**-8)):
            for i in range(tokens + n):
                scores = [
                    -math.inf
                    if not seen[row, j]
                    else float(query[row, head, i] @ key[row, head, j]) / 2
                    - (0.0 if i == 0 or j == 0 else slope * abs(i - j))
                    for j in range(tokens + n)
                ]
                shares = torch.tensor(scores, dtype=F64).softmax(0)
                close(found[row, head, i], shares @ value[row, head], 1e-12)


def test_rotary_scores_depend_on_the_relative_position() -> None:
    n, tokens, size = 9, 1, 8
    draw = Rng(4).stream("parts")
    query, key = (draw.normal((1, 1, 1, size), F64).expand(1, 1, n + tokens, size) for _ in range(2))
    like = torch.zeros(1, n + tokens, size, dtype=F64)
    value = torch.eye(n + tokens, dtype=F64)[None, None]
    shares = Rotary().make_attention(None, like, 1, tokens)(query, key, value)[0, 0].log()[tokens:, tokens:]
    ratios = shares - shares.diagonal()[:, None]
    for far in range(1, 4):
        for sign in (far, -far):
            line = ratios.diagonal(sign)
            close(line, line[:1].expand(line.shape), 1e-12)
    assert (ratios.diagonal(1)[0] - ratios.diagonal(2)[0]).abs() > 1e-3


@pytest.mark.parametrize("depth", [1, 2, 4, 5])
def test_skip_connections_between_blocks(depth: int) -> None:
    """Block i from the end reads block i from the beginning: the same blocks called by hand, outermost last."""
    folded = SkipTransformer(16, depth, 2, TimeToken(), ALiBi()).double()
    for i, weight in enumerate(folded.parameters()):
        weight.data += 0.2 * Rng(5).stream("weight", i).normal(weight.shape, F64)
    h, t = Rng(6).stream("h").normal((2, 7, 16), F64), torch.tensor([0.2, 0.7], dtype=F64)
    groups = math.gcd(16, CONV_GROUPS)
    near = F.gelu(
        F.conv1d(h.mT, folded.conv.weight, folded.conv.bias, padding=KERNEL_SIZE // 2, groups=groups),
        approximate="tanh",
    ).mT
    token, nothing = folded.time_embed(t)
    y = torch.cat([token, h + near], 1)
    attend = ALiBi().make_attention(None, y, 2, 1)

    def run(y: Tensor, first: int, last: int) -> Tensor:
        if first > last:
            return y
        y = folded.blocks[first](y, nothing, attend)
        if first == last:
            return y
        inner = run(y, first + 1, last - 1)
        joint = folded.skip_projections[len(folded.skip_projections) - 1 - first]
        return folded.blocks[last](inner + joint(torch.cat([inner, y], 2)), nothing, attend)

    close(folded(h, t, None), folded.norm(run(y, 0, depth - 1)[:, 1:]), 1e-12)


def test_transformer_block_formula() -> None:
    block = TransformerBlock(8, 2).double()
    h = Rng(7).stream("h").normal((2, 5, 8), F64)
    values = block.qkv(block.norm1(h))[:, :, 16:]
    middle = h + block.proj(values.mean(1, keepdim=True)).expand(h.shape)
    wanted = middle + block.fc2(F.gelu(block.fc1(block.norm2(middle)), approximate="tanh"))
    got = block(h, h[:, 0, :0], lambda query, key, value: value.mean(2, keepdim=True).expand(value.shape))
    close(got, wanted, 1e-12)


@pytest.mark.parametrize("clock", [TimeToken(), AdaLNZero()])
def test_receptive_field_of_the_convolution(clock: TimeConditioning) -> None:
    folded = SkipTransformer(16, 1, 2, clock, ALiBi()).double()
    h = torch.zeros(1, 60, 16, dtype=F64)
    moved = h.clone()
    moved[0, 30] = 1.0
    change = (folded._conv_positions(moved, None) - folded._conv_positions(h, None)).abs().amax(2)[0] > 0
    assert change.nonzero()[:, 0].tolist() == list(range(15, 46))


def test_guidance_drops_context_and_labels_together() -> None:
    network, (x_t, t, given) = random_network(KINDS["paper"]), batch(2, 6)
    given["valid"] = torch.arange(6) < torch.tensor([[6], [4]])
    nothing = {
        "phone": torch.full_like(given["phone"], K),
        "context": torch.zeros_like(given["context"]),
        "known": torch.zeros_like(given["known"]),
        "valid": given["valid"],
    }
    assert network.null_values.keys() == {"phone", "context", "known"}
    wanted = -0.7 * network(x_t, t, nothing) + 1.7 * network(x_t, t, given)
    close(cfg(network, 1.7, droppable=tuple(network.null_values))(x_t, t, given), wanted, 1e-12)


def test_the_null_label_has_its_own_embedding() -> None:
    network, (x_t, t, given) = random_network(KINDS["paper"]), batch(1, 4)
    network(x_t, t, {**given, "phone": torch.full_like(given["phone"], K)}).square().sum().backward()
    gradient = network.phone_embed.weight.grad
    assert gradient.shape[0] == K + 1
    assert gradient[K].any()
    assert not gradient[:K].any()


@pytest.mark.slow
@pytest.mark.parametrize("distance", [ALiBi(), Rotary()])
def test_fits_a_map_of_neighbours_labels_and_time(distance: PositionEncoding) -> None:
    """A map of context, label and time of which 2% of the variance may remain."""
    x_t, t, given = batch(16, 6)
    x_t, t, given = x_t.float(), t.float(), {**given, "context": given["context"].float()}
    wanted = given["context"].roll(1, 1) + x_t * t[:, None, None] + (given["phone"] - 2.0)[:, :, None]
    network = FrameInfiller(32, 2, 2, TimeToken(), distance).build((6, BANDS), {"phone": K}, Rng(0))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(200):
        optimiser.zero_grad()
        error = (network(x_t, t, given) - wanted).square().mean()
        error.backward()
        optimiser.step()
    assert error < 0.02 * wanted.var()


def test_invalid_settings_shapes_and_conditions_are_refused() -> None:
    for wrong in ({"width": 0}, {"depth": 0}, {"width": 20, "heads": 4}):
        with refuses(UsageError):
            FrameInfiller(**wrong)
    phone = {"phone": K}
    for shape, conditions in (((7,), phone), ({"a": (7, 3)}, phone), ((7, 3), {}), ((7, 3), {**phone, "label": 2})):
        with refuses(UsageError):
            FrameInfiller().build(shape, conditions, Rng(0))
    network, (x_t, t, given) = random_network(KINDS["paper"]), batch(1, 4)
    with pytest.raises(KeyError, match="phone"):
        network(x_t, t, {"phone": given["phone"]})
    assert isinstance(network, nn.Module)
