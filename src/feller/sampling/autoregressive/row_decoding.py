"""Decoding of table rows column by column: observed columns first, then the others in table order.

A network trained on a single order cannot start with arbitrary columns. In this case rows are sampled until the
observed values occur (exact, but slow for rare values), or resampled with importance weights (fast, but approximate).
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
"""Maximum number of proposals per row in rejection sampling, in one round and in total."""
CHUNK_SIZE = 2048
"""Number of rows per network call."""


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
    """Generate n rows that are valid under the network's grammar; samples depend on the row index, not on the batch.

    Args:
        network: A `RowTransformerNetwork`.
        n: Number of rows.
        rng: Random numbers.
        token_sampler: Sampler of tokens from float64 logits.
        observed: Tokens of whole rows, and the mask of observed tokens; columns are observed entirely or not at all.
        any_order: True if the network was trained on all orders, so that observed columns can come first.
        num_candidates: Number of candidates per row for importance resampling, if observed columns cannot come first;
            exact in the limit of many candidates. 0 selects rejection sampling.
        forbidden: Token per position (-1 for none) to avoid if other tokens are allowed, such as the token of a missing
            cell.
        code_weights: For a column index, function from value codes to weights in [0, 1], which multiply the network's
            probabilities; the result is exact, by rejection sampling.

    Raises:
        UsageError: If the observed values occur in no valid row, or too rarely.
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
    network: Any
    token_sampler: RowTokenSamplerFn
    forbidden: Tensor | None = None

    def uniform(self, rng: Rng, n: int, *times: int) -> Tensor:
        """Sample the uniform numbers for the token positions of n rows, [n, *times, places]."""
        device = self.network.token_embed.weight.device
        return rng.stream("token").uniform((n, *times, len(self.network.space.vocab_sizes)), torch.float64, device)

    def __call__(
        self, x: Tensor, observed_mask: Tensor, u: Tensor, order: Tensor | None = None
    ) -> tuple[Int64[Tensor, "m places"], Float[Tensor, " m"]]:
        """Return completed rows, and the log importance weight of each row's observed values.

        Earlier columns are restricted to values that the observed values can follow; the weight corrects for this.
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
    """Sample rows given their leading observed columns, until all observed values match and the row is accepted."""
    accepted_rows, open_rows = x.clone(), torch.arange(len(x), device=x.device)
    tries, num_proposed = 1, 0
    while len(open_rows):
        if num_proposed >= MAX_PROPOSALS:
            remedy = "Condition on fewer columns, or on wider ranges"
            remedy += "" if order is not None else "; or fit with --objective.shuffle-prob 1 for any order of columns"
            raise UsageError(
                argument="given",
                expected=f"values that occur in at least one of {MAX_PROPOSALS:,} sampled rows",
                found=f"no match for {len(open_rows)} of {len(x)} rows",
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
    """Sample candidates for each row, and select one of them in proportion to the importance weights."""
    u = filler.uniform(rng.fold_in("ways"), len(x), num_candidates)
    rows, log_weights = filler(
        x.repeat_interleave(num_candidates, 0), observed_mask.repeat_interleave(num_candidates, 0), u.flatten(0, 1)
    )
    log_weights = log_weights.reshape(-1, num_candidates)
    weights = (log_weights - log_weights.amax(1, keepdim=True)).exp()
    index = categorical(weights, rng.stream("way").uniform((len(x),), torch.float64, x.device))
    return rows.reshape(len(x), num_candidates, -1)[torch.arange(len(x), device=x.device), index]


def _check_observed(rows: TableTokens, x: Int64[Tensor, "n places"], observed_mask: Bool[Tensor, "n places"]) -> None:
    """Check that observed tokens are valid, and that columns are observed entirely or not at all."""
    invalid = observed_mask & ((x < 0) | (x >= torch.tensor(rows.vocab_sizes, device=x.device)))
    if invalid.any():
        row, place = invalid.nonzero()[0].tolist()
        raise UsageError(
            f"a token from 0 to {rows.vocab_sizes[place] - 1} at position {place}",
            int(x[row, place]),
            "Set the mask of this token to False to sample it",
            row=row,
        )
    if any((part.any(1) != part.all(1)).any() for part in observed_mask.split(rows.tokens_per_column, 1)):
        raise UsageError("a column must be observed entirely or not at all", remedy="Mask all of its tokens, or none")


def _check_fits(
    columns: list[int], allowed: Bool[Tensor, "n tokens"], token: Tensor, is_observed: Bool[Tensor, " n"], place: Tensor
) -> None:
    wrong = ~torch.where(is_observed, allowed.gather(1, token[:, None])[:, 0], allowed.any(1))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise UsageError(
            "no valid row contains all given values",
            remedy=f"Check the constraints of the schema on column {columns[int(place[row])]}",
            row=row,
        )
