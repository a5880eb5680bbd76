"""Documents token after token: a cache beside reading all again, guidance beside none."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.timing import Case
from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks.sequence.gpt import GPT, GPTNetwork
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.decoding_goals import ImageGoal
from feller.sampling.autoregressive.document_decoding import SamplingSpec, generate
from feller.sampling.autoregressive.document_grammar import parse_prefix, symbol_kinds
from feller.sampling.autoregressive.parser_state import Automaton
from feller.sampling.autoregressive.token_guidance import ClassifierFreeGuidance, ContrastiveDecoding

SYMBOLS = DocumentVocabulary(text=1000, codes=256, picture=240)
LENGTH = 256


def reading_again(network: GPTNetwork, prompt: Tensor, n: int) -> Tensor:
    """Draw pictures by one call of the network on the whole rows for each symbol."""
    automaton, kind_of = Automaton(SYMBOLS, ImageGoal()), symbol_kinds(SYMBOLS)
    state = automaton.initial_state([parse_prefix(prompt, SYMBOLS)] * n, [LENGTH - len(prompt)] * n)
    rows, choice, zero = prompt.repeat(n, 1), TokenSampler(), torch.zeros(n)
    u = Rng(0).stream("token").uniform((n, LENGTH), torch.float64)
    for i in range(SYMBOLS.picture + 1):
        may = torch.from_numpy(automaton.allowed(state))[:, kind_of]
        new = choice(network(rows, zero, {})[:, -1].masked_fill(~may, -torch.inf), u[:, i])
        rows, state = torch.cat([rows, new[:, None]], 1), automaton.step(state, kind_of[new].numpy())
    return rows[:, len(prompt) :]


def cases() -> Iterator[Case]:
    network = GPT.from_size(SYMBOLS, 4, LENGTH).build((LENGTH,), {}, Rng(0)).requires_grad_(False)
    for i, weight in enumerate(network.parameters()):
        weight += 0.05 * Rng(1).stream("weights", i).normal(weight.shape)
    prompt = torch.cat([torch.tensor([SYMBOLS.eos]), torch.arange(13), torch.tensor([SYMBOLS.break_token])])
    nothing = torch.tensor([SYMBOLS.eos, SYMBOLS.mask, SYMBOLS.break_token])

    def feller(n: int, *ways: SamplingSpec) -> Callable[[], Tensor]:
        streams = [[prompt] * n, [nothing] * n][: max(way.guidance.num_streams for way in ways)]
        return lambda: torch.stack(generate(network, streams, ImageGoal(), Rng(0), specs=ways))

    for n, repeat in ((1, 5), (8, 2)):
        plain, again = feller(n, SamplingSpec()), lambda n=n: reading_again(network, prompt, n)
        yield Case(
            f"decoding with a cache, 1M weights, {n} x {LENGTH}",
            {"feller": plain, "reading all again": again},
            repeat,
            max_peer_ratio=0.2,
            note=lambda plain=plain, again=again: (
                f"{(plain() == again()).double().mean():.2%} of the symbols are the same"
            ),
        )
    for n, repeat in ((1, 5), (16, 5)):
        for name, way in (
            ("guidance", SamplingSpec(ClassifierFreeGuidance(3.0))),
            ("contrast", SamplingSpec(ContrastiveDecoding())),
        ):
            yield Case(
                f"decoding with {name}, two streams in one call, {n} x {LENGTH}",
                {"feller": feller(n, way), "floor, one stream": feller(n, SamplingSpec())},
                repeat,
                max_floor_ratio=2.1,
            )
