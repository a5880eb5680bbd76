"""Small document networks, and documents for them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks import GPT
from feller.networks.sequence.causal_transformer import CausalTransformerNetwork
from feller.networks.sequence.gpt import GPTNetwork


def reader(symbols: DocumentVocabulary, context: int = 24, heat: float = 0.7, seed: int = 1) -> GPTNetwork:
    """Return a float64 network with nonzero weights."""
    architecture = GPT(symbols, width=8, depth=1, heads=2, context=context)
    network = architecture.build((context,), {}, Rng(0)).double()
    draw = Rng(seed).stream("weights")
    with torch.no_grad():
        for weight in network.parameters():
            weight += heat * draw.normal(weight.shape, torch.float64)
    return network


@dataclass(frozen=True)
class Counted:
    """A network that records the batch size and length of each call."""

    network: GPTNetwork | CausalTransformerNetwork
    calls: list[tuple[int, ...]] = field(default_factory=list)

    def __getattr__(self, name: str):
        return getattr(self.network, name)

    def decode_step(self, tokens: Tensor, cache, *given: dict[str, Tensor]):
        self.calls.append(tuple(tokens.shape))
        return self.network.decode_step(tokens, cache, *given)


def written(text: str, symbols: DocumentVocabulary) -> Tensor:
    """Spell rows: E, B, M and I for <eos>, <break>, <mask> and <infill>, P for padding, a to z and digits else."""
    names = {"E": symbols.eos, "B": symbols.break_token, "M": symbols.mask, "I": symbols.infill, "P": symbols.pad}
    values = [
        names[c] if c in names else symbols.text + int(c) if c.isdigit() else ord(c) - ord("a")
        for c in text.replace(" ", "")
    ]
    return torch.tensor(values, dtype=torch.long)


def spelled(row: Tensor, symbols: DocumentVocabulary) -> str:
    """Invert `written`."""
    ends = {symbols.eos: "E", symbols.break_token: "B", symbols.mask: "M", symbols.infill: "I", symbols.pad: "P"}
    return "".join(
        ends.get(v) or (chr(ord("a") + v) if v < symbols.text else str(v - symbols.text)) for v in row.tolist()
    )
