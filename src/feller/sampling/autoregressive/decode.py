"""Drawing from a law of texts token after token, and its exact likelihood."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import concatenate, tree_map
from feller.core.rng import Draws
from feller.paths.discrete.token_sampler import Choice
from feller.paths.path import Given, Network
from feller.sampling.guidance import blend

Choose = Callable[[Tensor, Tensor], Tensor]
"""(logits [m, K], uniform numbers [m] in float64) -> symbols [m]."""


@runtime_checkable
class Causal(Protocol):
    """A network of which place i of the answer has seen the tokens before i alone, and which can read step by step."""

    start: int
    """What is read before the first token; the symbols are the numbers below it."""
    nulls: dict[str, int | float]

    def __call__(self, x_t: Tensor, t: Tensor, given: Given) -> Tensor:
        """Return the logits of all tokens, [b, n, K]."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """Yield the weights, which say where the texts live."""
        ...

    def begin(self, b: int, most: int) -> Any:
        """Return an empty cache, whose `rows(which)` is that of some of the texts."""
        ...

    def next(self, tokens: Tensor, cache: Any, given: Given) -> tuple[Tensor, Any]:
        """Read tokens [b, m] and return the logits of what follows, [b, K], with the cache to go on."""
        ...


@torch.no_grad()
def decode(
    network: Causal,
    n: int,
    length: int,
    given: Given,
    draws: Draws,
    *,
    choice: Choose = Choice(),  # noqa: B008 - frozen
    known: tuple[Int[Tensor, "n length"], Bool[Tensor, "n length"]] | None = None,
    end: int | None = None,
    guidance: float = 1.0,
) -> Int[Tensor, "n length"]:
    """Draw n texts, token after token; what a text draws depends on its number, not on its batch.

    Args:
        network: Predicts each token from those before it.
        n: Number of texts.
        length: Tokens of each.
        given: Conditions, [n] each.
        draws: Source of the uniform numbers.
        choice: Draws symbols from logits, in float64.
        known: Tokens, and which of them are kept, anywhere. A token that is drawn knows those before it only, whatever
            is kept behind it.
        end: Symbol after which a text holds nothing but it, and costs nothing; not drawn before a token that is kept.
        guidance: w in (1 - w) log p without + w log p with the conditions; w = 1 is the plain conditional.

    Raises:
        UsageError: If the known tokens do not fit, or guidance is asked of a network that knows no "not given".
    """
    device = next(network.parameters()).device
    tokens, kept = _known(network, known, n, length, device)
    open_rows = torch.arange(n, device=device)
    last = (kept * torch.arange(1, length + 1, device=device)).amax(1) - 1 if length else open_rows
    u = draws.at("token").uniform((n, length), torch.float64, device)
    given = given if guidance == 1 else _both(given, network.nulls)
    branches = 1 if guidance == 1 else 2
    cache = network.begin(n * branches, length)
    begun = int(kept.all(0).cumprod(0).sum())  # places known in all texts are read at once
    if end is not None and begun:  # but for a last one that ends a text: the loop closes it
        begun -= int(((last == begun - 1) & (tokens[:, begun - 1] == end)).any())
    new = torch.cat([torch.full((n, 1), network.start, device=device), tokens[:, :begun]], 1)
    for i in range(begun, length):
        logits, cache = network.next(new.repeat(branches, 1), cache, given)
        if guidance != 1:
            plain, without = logits.log_softmax(-1).chunk(2)
            logits = blend(plain, without, guidance)
        if end is not None:
            logits[:, end] = torch.where(last[open_rows] > i, -torch.inf, logits[:, end])
        drawn = torch.where(kept[open_rows, i], tokens[open_rows, i], choice(logits, u[open_rows, i]))
        tokens[open_rows, i] = drawn
        if end is not None:
            goes_on = (drawn != end) | (last[open_rows] > i)
            if not goes_on.all():
                tokens[open_rows[~goes_on], i + 1 :] = end
                open_rows, which = open_rows[goes_on], goes_on.repeat(branches).nonzero()[:, 0]
                cache, given = cache.rows(which), tree_map(lambda leaf, which=which: leaf[which], given)
        if not len(open_rows):
            break
        new = tokens[open_rows, i : i + 1]
    return tokens


def log_likelihood(
    network: Network, x_1: Int[Tensor, "b n"], given: Given, valid: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, " b"]:
    """Return log p(x_1) in nats, exact, in float64; what is not valid is not counted, what cannot be has -inf."""
    logits = network(x_1, torch.zeros(len(x_1), device=x_1.device), given)
    entries = -F.cross_entropy(logits.double().movedim(-1, 1), x_1, reduction="none")
    # behind a token that a grammar forbids it may forbid all others, whose distribution is not a number
    impossible = logits.gather(-1, x_1[..., None])[..., 0] == -torch.inf
    entries = entries.masked_fill(impossible, -torch.inf)
    return (entries if valid is None else torch.where(valid, entries, 0.0)).sum(1)


def _known(
    network: Causal, known: tuple[Tensor, Tensor] | None, n: int, length: int, device: torch.device
) -> tuple[Int[Tensor, "n length"], Bool[Tensor, "n length"]]:
    """Return the tokens to fill in and which of them are kept, checked."""
    if known is None:
        tokens = torch.zeros(n, length, dtype=torch.long, device=device)
        return tokens, torch.zeros_like(tokens, dtype=torch.bool)
    tokens, kept = known
    if tokens.shape != (n, length) or kept.shape != (n, length):
        raise UsageError(
            f"known tokens of shape {(n, length)}",
            f"{tuple(tokens.shape)} and {tuple(kept.shape)}",
            "Mark those that are to be drawn as not kept",
        )
    wrong = kept & ((tokens < 0) | (tokens >= network.start))
    if wrong.any():
        row, place = wrong.nonzero()[0].tolist()
        raise UsageError(
            f"known tokens from 0 to {network.start - 1}",
            f"{int(tokens[row, place])} at place {place} of text {row}",
            "Mark it as not kept to have it drawn",
        )
    return torch.where(kept, tokens, 0), kept


def _both(given: Given, nulls: dict[str, int | float]) -> Given:
    """Put the conditions above their null values."""
    if not nulls or not given.keys() & nulls.keys():
        raise UsageError("guidance needs a condition, and this network has none", remedy="Leave guidance at 1")
    return concatenate(given, {k: torch.full_like(v, nulls[k]) if k in nulls else v for k, v in given.items()})
