"""Decoding of documents: against recomputation, exact probabilities and the grammar."""

import copy
import itertools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks.sequence.gpt import GPT, GPTNetwork
from feller.networks.sequence.patch_positions import CollapsedHoles, PlannedHoles
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.decoding_goals import (
    ContinuationGoal,
    DecodingGoal,
    ImageGoal,
    InfillGoal,
    TextGoal,
)
from feller.sampling.autoregressive.document_decoding import SamplingSpec, generate, rank_candidates
from feller.sampling.autoregressive.document_grammar import (
    Place,
    SymbolKind,
    check_document,
    parse_prefix,
    symbol_kinds,
)
from feller.sampling.autoregressive.parser_state import Automaton
from feller.sampling.autoregressive.token_guidance import (
    ClassifierFreeGuidance,
    ContrastiveDecoding,
    DualGuidance,
    NoGuidance,
)
from tests.errors import numbers, refuses
from tests.networks.checks import perturb_weights
from tests.sampling.autoregressive.readers import Counted, reader, spelled, written

SYMBOLS = DocumentVocabulary(text=3, codes=2, picture=3)
WAYS = {
    "plain": SamplingSpec(),
    "guided": SamplingSpec(ClassifierFreeGuidance(2.5), TokenSampler(temperature=0.8, top_p=0.9)),
    "contrast": SamplingSpec(ContrastiveDecoding(2, 0.3)),
    "two ways": SamplingSpec(DualGuidance(1.5, 4.0), TokenSampler(top_k=3)),
}
STREAMS = [
    ["E ab B", "E aM B I b E c B", "E c B", "E b B"],
    ["E M B", "E a B", "E M B 010 B", "E M B"],
    ["E M B 000 B", "E B", "E M B", "E aaaa B"],
]
PLANS: dict[str, tuple[DecodingGoal, list[str]]] = {
    "picture": (ImageGoal(), STREAMS[0]),
    "text": (TextGoal(5), ["E", "E aM B", "E 010 B a", "E b B"]),
    "fill": (InfillGoal(4), ["E aM B", "E M B 010 B", "E MM B 0M1 B I", "E a B M0M B"]),
    "free": (ContinuationGoal(12), ["E", "E aM B", "E a B 01", "E b B"]),
}


def prompts_of(rows: list[str]) -> list[Tensor]:
    return [written(row, SYMBOLS) for row in rows]


def streams_for(way: SamplingSpec, rows: list[str]) -> list[list[Tensor]]:
    return [prompts_of(rows), *map(prompts_of, STREAMS[1:])][: way.guidance.num_streams]


def recomputed(
    network: GPTNetwork, prompts: list[Tensor], plan: DecodingGoal, way: SamplingSpec, u: Tensor, number: int
) -> Tensor:
    """Decode one row without a cache."""
    automaton, drawn = Automaton(SYMBOLS, plan), torch.zeros(0, dtype=torch.long)
    state = automaton.initial_state([parse_prefix(prompts[0], SYMBOLS)], [network.context - max(map(len, prompts))])
    kind_of = symbol_kinds(SYMBOLS)
    for i in itertools.count():
        rows = [torch.cat([prompt, drawn])[None] for prompt in prompts]
        logits = torch.stack([network(row, torch.zeros(1), {})[:, -1] for row in rows])
        may = torch.from_numpy(automaton.allowed(state))[:, kind_of]
        symbol = way.token_sampler(way.guidance.combine(logits.masked_fill(~may, -torch.inf)), u[number, i : i + 1])
        drawn, state = torch.cat([drawn, symbol]), automaton.step(state, kind_of[symbol].numpy())
        if state.place[0] == Place.ENDED:
            return drawn
    raise AssertionError


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("way", WAYS)
def test_cached_decoding_equals_recomputation(plan: str, way: str) -> None:
    network, (what, rows) = reader(SYMBOLS), PLANS[plan]
    streams = streams_for(WAYS[way], rows)
    drawn = generate(network, streams, what, Rng(3), specs=[WAYS[way]])
    u = Rng(3).stream("token").uniform((4, 24), torch.float64)
    for i, found in enumerate(drawn):
        wanted = recomputed(network, [stream[i] for stream in streams], what, WAYS[way], u, i)
        assert torch.equal(found, wanted)
    assert len({tuple(row.tolist()) for row in drawn}) > 1


@pytest.mark.parametrize("way", WAYS)
def test_one_network_call_per_token_for_all_streams_and_rows(way: str) -> None:
    counted, (what, rows) = Counted(reader(SYMBOLS)), PLANS["free"]
    streams = streams_for(WAYS[way], rows)
    drawn = generate(counted, streams, what, Rng(4), specs=[WAYS[way]])
    lengths = [len(row) for row in drawn]
    width = max(len(prompt) for stream in streams for prompt in stream)
    alive = [sum(length > i for length in lengths) for i in range(max(lengths))]
    assert counted.calls == [(len(streams) * n, 1 if i else width) for i, n in enumerate(alive)]
    assert len({*lengths}) > 1


def test_rows_do_not_depend_on_the_batch() -> None:
    network, ways = reader(SYMBOLS), [WAYS["guided"], WAYS["contrast"], WAYS["plain"]]
    rows = [f"E {'abc'[i % 3] * (i % 4)} B" for i in range(16)]
    streams = [prompts_of(rows), prompts_of(["E M B"] * 16)]
    whole = generate(network, streams, ContinuationGoal(15), Rng(5), specs=ways)
    for at_once in (1, 7):
        again = generate(network, streams, ContinuationGoal(15), Rng(5), specs=ways, batch_size=at_once)
        assert all(map(torch.equal, whole, again))
    for a, b in ((0, 4), (4, 5), (5, 16)):
        part = generate(
            network, [stream[a:b] for stream in streams], ContinuationGoal(15), Rng(5, first_example=a), specs=ways
        )
        assert all(map(torch.equal, whole[a:b], part))
    other = generate(network, streams, ContinuationGoal(15), Rng(6), specs=ways)
    assert sum(map(torch.equal, whole, other)) < 8


def test_rows_take_sampling_specs_in_turn() -> None:
    network, names = reader(SYMBOLS), ["guided", "contrast", "plain"]
    streams = [prompts_of(["E ab B"] * 9), prompts_of(["E M B"] * 9)]
    mixed = generate(network, streams, ImageGoal(), Rng(5), specs=[WAYS[name] for name in names])
    for i, row in enumerate(mixed):
        way = WAYS[names[i % 3]]
        alone = generate(network, streams[: way.guidance.num_streams], ImageGoal(), Rng(5), specs=[way])
        assert torch.equal(row, alone[i])


def test_image_frequencies_equal_their_likelihood() -> None:
    """8 pictures, 4,000 draws: beyond 6 deviations of chi-square once in about 1e5 seeds, of which one is fixed."""
    network, prompt, n = reader(SYMBOLS), written("E ab B", SYMBOLS), 4000
    drawn = torch.stack(generate(network, [[prompt] * n], ImageGoal(), Rng(0), batch_size=n))
    assert (drawn[:, 3] == SYMBOLS.break_token).all()
    pictures = torch.tensor(list(itertools.product(range(3, 5), repeat=3)))
    rows = torch.cat([prompt.expand(8, -1), pictures], 1)
    logits = network(rows, torch.zeros(8), {})[:, 3:-1, 3:5].log_softmax(2)
    p = logits.gather(2, pictures[..., None] - 3)[..., 0].sum(1).exp()
    counts = (drawn[:, None, :3] == pictures).all(2).sum(0)
    assert counts.sum() == n
    statistic = ((counts - n * p).square() / (n * p)).sum().item()
    assert (statistic - 7) / math.sqrt(14) < 6
    assert p.max() > 2 * p.min()


def test_greedy_limits_of_all_specs_agree() -> None:
    network, streams = reader(SYMBOLS), [prompts_of(["E ab B"] * 5), prompts_of(["E M B"] * 5)]
    greedy = generate(
        network,
        streams[:1],
        ContinuationGoal(15),
        Rng(0),
        specs=[SamplingSpec(token_sampler=TokenSampler(temperature=0.0))],
    )
    assert all(torch.equal(row, greedy[0]) for row in greedy)
    for way in (
        SamplingSpec(token_sampler=TokenSampler(top_p=1e-9)),
        SamplingSpec(token_sampler=TokenSampler(temperature=1e-9)),
        SamplingSpec(token_sampler=TokenSampler(top_k=1)),
        SamplingSpec(ContrastiveDecoding(1, 1.0)),
        SamplingSpec(ClassifierFreeGuidance(1.0), TokenSampler(temperature=0.0)),
    ):
        found = generate(network, streams[: way.guidance.num_streams], ContinuationGoal(15), Rng(0), specs=[way])
        assert all(torch.equal(row, greedy[0]) for row in found)
    hot = generate(
        network,
        streams[:1],
        ContinuationGoal(15),
        Rng(0),
        specs=[SamplingSpec(token_sampler=TokenSampler(temperature=1e9))],
    )
    assert len({tuple(row.tolist()) for row in hot}) > 3


PIECES = st.one_of(st.text("abc", max_size=3), st.text("01", min_size=3, max_size=3))


@st.composite
def beginnings(draw: st.DrawFn) -> str:
    """Return document prefixes with masked spans anywhere, filled or not, that some continuation completes."""
    text = ""
    if draw(st.booleans()):
        text += "E" + draw(st.sampled_from(["abB", "aMBIb", "010B", "MBI001"]))
    fills = []
    text += "E"
    for piece in draw(st.lists(PIECES, max_size=3)):
        first, last = sorted((draw(st.integers(0, len(piece))), draw(st.integers(0, len(piece)))))
        fills += [piece[first:last]] if first < last else []
        text += piece[:first] + ("M" if first < last else "") + piece[last:] + "B"
    for fill in fills:
        text += "I" + fill
    return text[: draw(st.integers(1, len(text)))]


def refused(row: str, plan: DecodingGoal, room: int) -> str | None:
    """Return why a row cannot be continued, if so.

    The only rows that nothing can complete are those cut off in an image with holes.
    """
    try:
        state = parse_prefix(written(row, SYMBOLS), SYMBOLS)
    except InputError as error:
        if not re.search(r"[EB](?=.*M)(?=.*[01])[01M]+$", row):
            raise
        return str(error)
    try:
        Automaton(SYMBOLS, plan).initial_state([state], [room])
    except UsageError as error:
        return str(error)
    return None


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(beginnings(), min_size=1, max_size=4),
    plan=st.sampled_from(
        [
            ImageGoal(),
            TextGoal(2),
            TextGoal(30),
            InfillGoal(2),
            InfillGoal(9, (SymbolKind.CODE,)),
            ContinuationGoal(6),
            ContinuationGoal(99),
        ]
    ),
    way=st.sampled_from([*WAYS.values()]),
    seed=st.integers(0, 10**6),
    heat=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_samples_are_well_formed(
    rows: list[str], plan: DecodingGoal, way: SamplingSpec, seed: int, heat: float
) -> None:
    network = reader(SYMBOLS, heat=heat, seed=seed)
    kept = [row for row in rows if refused(row, plan, network.context - max(9, len(row))) is None]
    others = [prompts_of(["E abcab M B"] * len(kept)), prompts_of(["E"] * len(kept))]
    streams = [prompts_of(kept), *others][: way.guidance.num_streams]
    for prompt, drawn in zip(streams[0], generate(network, streams, plan, Rng(seed), specs=[way]), strict=True):
        whole, text = torch.cat([prompt, drawn]), spelled(drawn, SYMBOLS)
        assert len(whole) <= network.context
        assert "M" not in text
        assert text.endswith("E" if plan.final_kind is SymbolKind.EOS else "B")
        if plan.final_kind is SymbolKind.EOS:
            check_document(whole, SYMBOLS)
        else:
            assert parse_prefix(whole, SYMBOLS).place is Place.BETWEEN
            assert re.fullmatch("[01]*B" if plan == ImageGoal() else "[abc]*B", text)


def test_prompts_leave_room_for_the_generated_tokens() -> None:
    network = reader(SYMBOLS, context=12)
    long = written("E abcabca B", SYMBOLS)
    assert len(long) == 9
    (drawn,) = generate(network, [[written("E abcabc B", SYMBOLS)]], ImageGoal(), Rng(0))
    assert len(drawn) == 4
    longer, guided = written("E abcabcabcab B", SYMBOLS), SamplingSpec(ClassifierFreeGuidance(2.0))
    for prompts, goal, spec, expected, found in (
        ([[long[:1], long]], ImageGoal(), SamplingSpec(), ["4", "1"], ["3"]),
        ([[long[:1], longer]], TextGoal(2), SamplingSpec(), ["12"], ["13", "1"]),
        ([[long], [longer]], TextGoal(2), guided, ["12"], ["13", "0"]),
    ):
        with refuses(UsageError) as caught:
            generate(network, prompts, goal, Rng(0), specs=[spec])
        assert (numbers(caught.value.expected), numbers(caught.value.found)) == (expected, found)
    (text,) = generate(network, [[long]], TextGoal(99), Rng(0))
    assert len(text) <= 3


def test_empty_batches_padding_and_empty_prompts() -> None:
    network = reader(SYMBOLS)
    assert generate(network, [[]], ImageGoal(), Rng(0)) == []
    bare, padded = written("E a B", SYMBOLS), written("E a B PPP", SYMBOLS)
    assert torch.equal(
        generate(network, [[bare]], ContinuationGoal(9), Rng(0))[0],
        generate(network, [[padded]], ContinuationGoal(9), Rng(0))[0],
    )
    guided = SamplingSpec(ClassifierFreeGuidance(2.0))
    for prompts, spec in (([[bare, bare[:0]]], SamplingSpec()), ([[bare], [bare[1:]]], guided)):
        with refuses(InputError) as caught:
            generate(network, prompts, ImageGoal(), Rng(0), specs=[spec])
        assert "<eos>" in caught.value.expected
        assert numbers(caught.value.expected) == [str(SYMBOLS.eos)]


def test_wrong_numbers_of_streams_are_refused() -> None:
    network, row = reader(SYMBOLS), written("E a B", SYMBOLS)
    plain, guided = SamplingSpec(), SamplingSpec(ClassifierFreeGuidance(2.0))
    for prompts, specs, found in (
        ([[row]], [plain, guided], ["2", "1"]),
        ([], [], ["0", "0"]),
        ([[row], [row, row]], [guided], ["1", "2"]),
    ):
        with refuses(UsageError) as caught:
            generate(network, prompts, ImageGoal(), Rng(0), specs=specs)
        assert "`prompts`" in caught.value.expected
        assert numbers(caught.value.found) == found


def test_infilled_kinds_are_those_requested() -> None:
    network, rows = reader(SYMBOLS), prompts_of(["E M B 010 B"] * 40)
    texts = generate(network, [rows], InfillGoal(5, (SymbolKind.TEXT,)), Rng(0))
    pictures = generate(network, [rows], InfillGoal(5, (SymbolKind.CODE,)), Rng(0))
    either = generate(network, [rows], InfillGoal(5), Rng(0))
    assert all(re.fullmatch("I[abc]{1,5}E", spelled(row, SYMBOLS)) for row in texts)
    assert all(re.fullmatch("I[01]{3}E", spelled(row, SYMBOLS)) for row in pictures)
    assert {bool(re.search("[01]", spelled(row, SYMBOLS))) for row in either} == {True, False}


def test_rank_candidates_keeps_the_best() -> None:
    candidates = [[torch.tensor([i]) for i in (3, 1, 4, 1, 5)], [torch.tensor([i, i]) for i in (2, 7, 2)]]
    found = rank_candidates(candidates, lambda prompt, some: torch.tensor([float(row.sum()) for row in some]), 2)
    assert [[row.tolist() for row in kept] for kept in found] == [[[5], [4]], [[7, 7], [2, 2]]]
    assert found[1][1] is candidates[1][0]
    assert rank_candidates([], lambda prompt, some: torch.zeros(0)) == []
    with refuses(UsageError) as caught:
        rank_candidates(candidates, lambda prompt, some: torch.zeros(len(some)), 4)
    assert numbers(caught.value.found) == ["4", "3", "1"]
    with refuses(UsageError) as caught:
        rank_candidates(candidates, lambda prompt, some: torch.full((len(some),), torch.nan))
    assert numbers(caught.value.expected) == ["5", "0"]
    assert "nan" in caught.value.found


def test_rank_candidates_takes_the_maximum() -> None:
    """The best of 8 is at least as likely as each; a mixture of ways draws from both."""
    network, n = reader(SYMBOLS), 8
    streams = [prompts_of(["E ab B"] * 2 * n), prompts_of(["E M B"] * 2 * n)]
    drawn = generate(
        network,
        streams,
        ImageGoal(),
        Rng(1),
        specs=[SamplingSpec(ClassifierFreeGuidance(3.0)), SamplingSpec(ContrastiveDecoding(2, 0.1))],
    )
    candidates = [drawn[:n], drawn[n:]]

    def score(prompt: int, some: list[Tensor]) -> Tensor:
        return torch.stack([(row == 3).sum().double() for row in some])

    for (kept,), some in zip(rank_candidates(candidates, score), candidates, strict=True):
        assert score(0, [kept])[0] == max(score(0, some))


def test_default_spec_is_unguided() -> None:
    assert SamplingSpec() == SamplingSpec(NoGuidance(), TokenSampler())


def test_filled_holes_have_the_probability_of_the_complete_row() -> None:
    """With true positions, decoding a prompt with holes equals a full pass over the prompt with its fills.

    Every fill is sampled greedily, so that each of its codes is the likeliest code of the full pass.
    """
    config = GPT(SYMBOLS, width=16, depth=2, heads=2, context=24, hole_positions=PlannedHoles())
    network = perturb_weights(config.build((24,), {}, Rng(7)), 0.5)
    greedy = SamplingSpec(token_sampler=TokenSampler(temperature=0.0))
    differing = 0
    for text, codes in (("E ab B M1M B", (1, 1)), ("E b B M1 B", ()), ("E c B 0M1 B", ()), ("E 0M B aM B", (2, 0))):
        prompt = written(text, SYMBOLS)
        (row,) = generate(network, [[prompt]], InfillGoal(1, hole_codes=codes), Rng(0), specs=[greedy])
        whole = torch.cat([prompt, row])
        logits = network(whole[None], torch.zeros(1), {})[0]
        other = copy.deepcopy(network)
        other.patch_positions.holes = CollapsedHoles()
        differing += int((other(whole[None], torch.zeros(1), {})[0] - logits).abs().max() > 1e-3)
        for i in SYMBOLS.is_code(whole).nonzero()[:, 0].tolist():
            if i >= len(prompt):
                among = logits[i - 1, SYMBOLS.text : SYMBOLS.eos]
                assert int(among.argmax()) == int(whole[i]) - SYMBOLS.text
    assert differing == 3  # the last hole ends its image
