"""Drawing rows column after column: those that are known come first, then the others as the table has them.

A network that has learned one order alone cannot begin with any columns. Then rows are drawn until what is known comes
out, which is exact and long where that is rare, or some ways of filling each row are weighed, which is neither.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng, categorical
from feller.paths.discrete.token_sampler import TokenSampler
from feller.spaces.table_tokens import TableTokens

RowTokenSamplerFn = Callable[[Tensor, Tensor], Tensor]
"""(logits [m, K], uniform numbers [m] in float64) -> tokens [m]."""
MAX_PROPOSALS_PER_ROUND, MAX_PROPOSALS = 64, 20_000
"""Rows that are drawn for each one at once, where they are rare, and in all."""
CHUNK_SIZE = 2048
"""Rows that go through the network together."""


@torch.no_grad()
def decode_rows(
    network: Any,
    n: int,
    rng: Rng,
    *,
    token_sampler: RowTokenSamplerFn = TokenSampler(),  # noqa: B008 - frozen
    observed: tuple[Int64[Tensor, "n places"], Bool[Tensor, "n places"]] | None = None,
    any_order: bool = True,
    num_candidates: int = 0,
    forbidden: Int64[Tensor, " places"] | None = None,
    code_weights: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
) -> Int64[Tensor, "n places"]:
    """Draw n rows, each valid by the network's grammar; what a row draws depends on its number, not on its batch.

    Args:
        network: A `RowTransformerNetwork`.
        n: Number of rows.
        rng: Source of the uniform numbers, one for each place.
        token_sampler: Draws tokens from logits, in float64.
        observed: Tokens, and which of them are kept: whole columns.
        any_order: The network has learned every order, so that known columns can come first.
        num_candidates: Where they cannot, weigh so many ways of filling each row, instead of drawing until what is
            known comes out; the law is right in the limit of many.
        forbidden: Token that is not drawn at each place where another may stand, such as that of a missing cell; -1 for
            none.
        code_weights: Columns of which each code counts that many times as much as the network says, from 0 to 1: rows
            are drawn until one is taken by these odds, which is exact.

    Raises:
        UsageError: If what is known cannot stand in any row, or hardly ever does.
    """
    rows, device = network.space, network.token_embed.weight.device
    x = torch.zeros(n, len(rows.vocab_sizes), dtype=torch.long, device=device)
    observed_mask = torch.zeros_like(x, dtype=torch.bool)
    if observed is not None:
        x, observed_mask = torch.where(observed[1], observed[0], 0), observed[1]
        _check_observed(rows, x, observed_mask)
    filler = _RowDecoder(network, token_sampler, None if forbidden is None else forbidden.to(device))
    leading_mask = observed_mask.cumprod(1).bool()
    can_begin = any_order or torch.equal(leading_mask, observed_mask)
    order = (
        rows.token_order((~observed_mask[:, network.grammar.first_place]).long().argsort(dim=1, stable=True))
        if can_begin
        else None
    )
    if can_begin and not code_weights:
        return filler(x, observed_mask, filler.uniform(rng, n), order)[0]
    if num_candidates:
        return _importance_resample(filler, x, observed_mask, rng, num_candidates)
    return _rejection_sample(
        filler, x, observed_mask, observed_mask if can_begin else leading_mask, order, rng, code_weights or {}
    )


@dataclass(frozen=True)
class _RowDecoder:
    """Draws what is not known of rows, place after place."""

    network: Any
    token_sampler: RowTokenSamplerFn
    forbidden: Tensor | None = None

    def uniform(self, rng: Rng, n: int, *times: int) -> Tensor:
        """Draw the numbers of rows, [n, *times, places]."""
        device = self.network.token_embed.weight.device
        return rng.stream("token").uniform((n, *times, len(self.network.space.vocab_sizes)), torch.float64, device)

    def __call__(
        self, x: Tensor, observed_mask: Tensor, u: Tensor, order: Tensor | None = None
    ) -> tuple[Int64[Tensor, "m places"], Float[Tensor, " m"]]:
        """Return whole rows, and how likely what is known of each is beside what was drawn, as a logarithm.

        Earlier columns are drawn so that the known ones can follow; what that leaves out counts.
        """
        parts = [torch.arange(len(x))[start : start + CHUNK_SIZE] for start in range(0, len(x), CHUNK_SIZE)] or [
            torch.arange(0)
        ]
        filled = [self._fill_chunk(x[i], observed_mask[i], u[i], None if order is None else order[i]) for i in parts]
        rows, likely = zip(*filled, strict=True)
        return torch.cat(rows), torch.cat(likely)

    def _fill_chunk(self, x: Tensor, observed_mask: Tensor, u: Tensor, order: Tensor | None) -> tuple[Tensor, Tensor]:
        network, grammar, everyone = self.network, self.network.grammar, torch.arange(len(x), device=x.device)
        order = torch.arange(x.shape[1], device=x.device).expand(x.shape) if order is None else order
        step, x, log_weight = order.argsort(1), x.clone(), x.new_zeros(len(x), dtype=torch.float64)
        cache, last, before = network.init_cache(len(x)), None, None
        narrowed = bool(grammar.constrained_columns) and bool(observed_mask.any())
        for number in range(x.shape[1]):
            place = order[:, number]
            logits, cache = network.decode_step(last, before, place, cache)
            allowed, token, is_observed = (
                grammar.allowed_at(x, step, place),
                x[everyone, place],
                observed_mask[everyone, place],
            )
            feasible = grammar.allowed_at(x, step, place, observed_mask) if narrowed else allowed
            _check_fits(grammar.column_of_place, feasible, token, is_observed, place)
            if self.forbidden is not None:
                others = feasible & (torch.arange(feasible.shape[1], device=x.device) != self.forbidden[place][:, None])
                feasible = torch.where(others.any(1, keepdim=True), others, feasible)
            logits = logits.double().masked_fill(~allowed, -torch.inf).log_softmax(1)
            narrow = logits.masked_fill(~feasible, -torch.inf)
            new_tokens = self.token_sampler(narrow, u[everyone, place])
            log_weight = log_weight + torch.where(
                is_observed, logits.gather(1, token[:, None])[:, 0], narrow.logsumexp(1)
            )
            x[everyone, place] = torch.where(is_observed, token, new_tokens)
            last, before = x[everyone, place], place
        return x, log_weight


def _rejection_sample(
    filler: _RowDecoder,
    x: Tensor,
    observed_mask: Tensor,
    leading_mask: Tensor,
    order: Tensor | None,
    rng: Rng,
    code_weights: Mapping[int, Callable[[Tensor], Tensor]],
) -> Int64[Tensor, "n places"]:
    """Draw rows from what they can begin with until all else is as known, and they are taken by the odds."""
    accepted_rows, open_rows = x.clone(), torch.arange(len(x), device=x.device)
    tries, num_proposed = 1, 0
    while len(open_rows):
        if num_proposed >= MAX_PROPOSALS:
            remedy = "Give less of them, or wider ranges"
            remedy += "" if order is not None else "; or fit with --objective.shuffled 1, which begins with any column"
            raise UsageError(
                argument="given",
                expected=f"what one of {MAX_PROPOSALS:,} rows has",
                found=f"none in {len(open_rows)} of {len(x)} searches",
                remedy=remedy,
            )
        round_rng = rng.fold_in("again", num_proposed)
        u = filler.uniform(round_rng, len(x), tries)[open_rows]
        some = open_rows.repeat_interleave(tries)
        rows, _ = filler(x[some], leading_mask[some], u.flatten(0, 1), None if order is None else order[some])
        fits = ((rows == x[some]) | ~observed_mask[some]).all(1)
        if code_weights:
            codes = filler.network.space.decode(rows)
            probs = torch.stack([weigh(codes[:, column]) for column, weigh in code_weights.items()]).prod(0)
            coins = round_rng.stream("taken").uniform((len(x), tries), torch.float64, x.device)[open_rows]
            fits &= coins.flatten() < probs
        fits = fits.reshape(-1, tries)
        first, any_fits = fits.long().argmax(1), fits.any(1)
        chosen = rows.reshape(len(open_rows), tries, -1)[torch.arange(len(open_rows)), first]
        accepted_rows[open_rows[any_fits]] = chosen[any_fits]
        open_rows, num_proposed, tries = (
            open_rows[~any_fits],
            num_proposed + tries,
            min(2 * tries, MAX_PROPOSALS_PER_ROUND),
        )
    return accepted_rows


def _importance_resample(
    filler: _RowDecoder, x: Tensor, observed_mask: Tensor, rng: Rng, num_candidates: int
) -> Int64[Tensor, "n places"]:
    """Fill each row in some ways, and choose one by how likely what is known is beside what was filled in."""
    u = filler.uniform(rng.fold_in("ways"), len(x), num_candidates)
    rows, log_weights = filler(
        x.repeat_interleave(num_candidates, 0), observed_mask.repeat_interleave(num_candidates, 0), u.flatten(0, 1)
    )
    log_weights = log_weights.reshape(-1, num_candidates)
    weights = (log_weights - log_weights.amax(1, keepdim=True)).exp()
    index = categorical(weights, rng.stream("way").uniform((len(x),), torch.float64, x.device))
    return rows.reshape(len(x), num_candidates, -1)[torch.arange(len(x), device=x.device), index]


def _check_observed(rows: TableTokens, x: Int64[Tensor, "n places"], observed_mask: Bool[Tensor, "n places"]) -> None:
    """Refuse tokens that there are not, and columns of which a part is known."""
    strange = observed_mask & ((x < 0) | (x >= torch.tensor(rows.vocab_sizes, device=x.device)))
    if strange.any():
        row, place = strange.nonzero()[0].tolist()
        raise UsageError(
            f"a token from 0 to {rows.vocab_sizes[place] - 1} at place {place}",
            int(x[row, place]),
            "Mark it as not kept to have it drawn",
            row=row,
        )
    if any((part.any(1) != part.all(1)).any() for part in observed_mask.split(rows.tokens_per_column, 1)):
        raise UsageError("a column is known as a whole or not at all", remedy="Mark all of its places, or none")


def _check_fits(
    columns: list[int], allowed: Bool[Tensor, "n tokens"], token: Tensor, is_observed: Bool[Tensor, " n"], place: Tensor
) -> None:
    """Refuse what is known and cannot stand in a row."""
    wrong = ~torch.where(is_observed, allowed.gather(1, token[:, None])[:, 0], allowed.any(1))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise UsageError(
            "no valid row has all that is given",
            remedy=f"See the rules of the schema about column {columns[int(place[row])]}",
            row=row,
        )
