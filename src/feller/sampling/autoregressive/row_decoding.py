"""Decoding of table rows column by column: observed columns first, then the others in table order.

A network trained on a single order cannot start with arbitrary columns. In this case rows are sampled until the
observed values occur (exact, but slow for rare values), or resampled with importance weights (fast, but approximate).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Int64[Tensor, "n places"]:
    """Generate n rows that are valid under the network's grammar; samples depend on the row index, not on the batch.

    Args:
        network: A network of rows, as of `RowTransformer`.
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
            probabilities; the result is exact. If the columns can be generated directly after the observed ones, the
            first one is sampled without rejection.
        on_progress: Callback with the fraction of accepted rows in rejection sampling.

    Raises:
        UsageError: If the observed values occur in no valid row, or too rarely.
    """
    space, device = network.space, next(network.parameters()).device
    x = torch.zeros(n, len(space.vocab_sizes), dtype=torch.long, device=device)
    observed_mask = torch.zeros_like(x, dtype=torch.bool)
    if observed is not None:
        x, observed_mask = torch.where(observed[1], observed[0], 0), observed[1]
        _check_observed(space, x, observed_mask)
    decoder = RowDecoder(network, token_sampler, None if forbidden is None else forbidden.to(device))
    leading_mask = observed_mask.cumprod(1).bool()
    can_begin = any_order or torch.equal(leading_mask, observed_mask)
    order = _observed_first(network, observed_mask) if can_begin else None
    if can_begin and not code_weights:
        return replace(decoder, is_weighing=False)(x, observed_mask, decoder.uniform(rng, n), order)[0]
    if num_candidates:
        return _importance_resample(decoder, x, observed_mask, rng, num_candidates)
    weights = dict(code_weights or {})
    if any_order and token_sampler == TokenSampler():
        log_weights = _token_log_weights(network, weights, device)
        weights = {column: weight for column, weight in weights.items() if column not in log_weights}
        decoder = replace(
            decoder, log_weights={network.grammar.first_place[j]: weight for j, weight in log_weights.items()}
        )
        order = _observed_first(network, observed_mask, tuple(log_weights))
    proposals = _Proposals(decoder, order, weights)
    return _rejection_sample(
        proposals, x, observed_mask, observed_mask if can_begin else leading_mask, rng, on_progress
    )


def _token_log_weights(
    network: Any, code_weights: Mapping[int, Callable[[Tensor], Tensor]], device: torch.device
) -> dict[int, Float[Tensor, " tokens"]]:
    """Return the log weights of the tokens of each weighted column that has one token per value."""
    space, log_weights = network.space, {}
    for column, weight_fn in code_weights.items():
        tokenizer = space.columns[column]
        if tokenizer.num_tokens != 1 or not tokenizer.ends_in_code:
            continue
        weights = torch.full((network.grammar.max_tokens,), -torch.inf, dtype=torch.float64, device=device)
        codes = torch.arange(tokenizer.num_values, device=device)
        weights[: len(codes)] = weight_fn(codes).double().log()
        log_weights[column] = weights
    return log_weights


@dataclass(frozen=True)
class RowDecoder:
    """Decoder of rows: completes partially observed rows from left to right, or in a given order of positions."""

    network: Any
    token_sampler: RowTokenSamplerFn
    forbidden: Tensor | None = None
    log_weights: Mapping[int, Tensor] = field(default_factory=dict)
    """Log weights of the tokens at some positions, which come directly after the observed columns."""
    is_weighing: bool = True
    """False if the importance weights of rows are not used, and need not be computed."""

    def uniform(self, rng: Rng, n: int, *times: int) -> Tensor:
        """Sample the uniform numbers for the token positions of n rows, [n, *times, places]."""
        device = next(self.network.parameters()).device
        return rng.stream("token").uniform((n, *times, len(self.network.space.vocab_sizes)), torch.float64, device)

    def __call__(
        self, x: Tensor, observed_mask: Tensor, u: Tensor, order: Tensor | None = None
    ) -> tuple[Int64[Tensor, "m places"], Float[Tensor, " m"]]:
        """Return completed rows, and the log importance weight of each row's observed values.

        Earlier columns are restricted to values that the observed values can follow; the weight corrects for this.
        With `log_weights`, the weight is the probability of acceptance: the first weighted column needs none.
        """
        size = self.network.rows_per_call
        chunks = [torch.arange(len(x))[i : i + size] for i in range(0, len(x), size)] or [torch.arange(0)]
        completed = [
            self._fill_chunk(x[i], observed_mask[i], u[i], None if order is None else order[i]) for i in chunks
        ]
        rows, log_weights = zip(*completed, strict=True)
        return torch.cat(rows), torch.cat(log_weights)

    def _fill_chunk(self, x: Tensor, observed_mask: Tensor, u: Tensor, order: Tensor | None) -> tuple[Tensor, Tensor]:
        network, grammar, rows = self.network, self.network.grammar, torch.arange(len(x), device=x.device)
        order = torch.arange(x.shape[1], device=x.device).expand(x.shape) if order is None else order
        step, x, log_weight = order.argsort(1), x.clone(), x.new_zeros(len(x), dtype=torch.float64)
        cache, last_tokens, last_position = network.init_cache(len(x)), None, None
        is_restricted = bool(grammar.constrained_columns) and bool(observed_mask.any())
        for i in range(x.shape[1]):
            position = order[:, i]
            logits, cache = network.decode_step(last_tokens, last_position, position, cache)
            allowed = grammar.allowed_at(x, step, position)
            if len(x) and (position == position[0]).all():
                num_tokens = network.space.vocab_sizes[int(position[0])]
                logits, allowed = logits[:, :num_tokens], allowed[:, :num_tokens]
            tokens, is_observed = x[rows, position], observed_mask[rows, position]
            feasible = allowed
            if is_restricted:
                feasible = grammar.allowed_at(x, step, position, observed_mask)[:, : allowed.shape[1]]
            _check_fits(grammar.column_of_place, feasible, tokens, is_observed, position)
            if self.forbidden is not None:
                preferred = feasible & (
                    torch.arange(feasible.shape[1], device=x.device) != self.forbidden[position][:, None]
                )
                feasible = torch.where(preferred.any(1, keepdim=True), preferred, feasible)
            logits = logits.double().masked_fill(~allowed, -torch.inf).log_softmax(1)
            restricted = logits.masked_fill(~feasible, -torch.inf)
            if self.log_weights:
                restricted = self._weighted(restricted, position)
            if self.is_weighing:
                log_weight = log_weight + torch.where(
                    is_observed, logits.gather(1, tokens[:, None])[:, 0], restricted.logsumexp(1)
                )
            if self.log_weights:
                # Up to the first weighted column, the weight is the same for all proposals.
                log_weight = log_weight.masked_fill(position == next(iter(self.log_weights)), 0.0)
                restricted = torch.where((restricted == -torch.inf).all(1, keepdim=True), logits, restricted)
            new_tokens = self.token_sampler(restricted, u[rows, position])
            x[rows, position] = torch.where(is_observed, tokens, new_tokens)
            last_tokens, last_position = x[rows, position], position
        return x, log_weight

    def _weighted(self, logits: Float[Tensor, "m tokens"], position: Int64[Tensor, " m"]) -> Float[Tensor, "m tokens"]:
        """Add the log weights of the tokens at the position of each row.

        Raises:
            UsageError: If the first weighted column has no possible token, so that no row can be accepted.
        """
        for index, (place, log_weights) in enumerate(self.log_weights.items()):
            logits = torch.where((position == place)[:, None], logits + log_weights[: logits.shape[1]], logits)
            is_impossible = (position == place) & (logits == -torch.inf).all(1)
            if index == 0 and is_impossible.any():
                raise UsageError(
                    argument="given",
                    expected="values that can occur together",
                    found=f"no possible value in column {self.network.grammar.column_of_place[place]}",
                    remedy="Condition on fewer columns, or on wider ranges",
                    row=int(is_impossible.nonzero()[0]),
                )
        return logits


@dataclass(frozen=True)
class _Proposals:
    decoder: RowDecoder
    order: Tensor | None
    """Positions in the order in which they are generated; None for the order of the table."""
    code_weights: Mapping[int, Callable[[Tensor], Tensor]]
    """For some columns, the probability with which a row with a code is accepted."""


def _rejection_sample(
    proposals: _Proposals,
    x: Tensor,
    observed_mask: Tensor,
    leading_mask: Tensor,
    rng: Rng,
    on_progress: Callable[[float], None],
) -> Int64[Tensor, "n places"]:
    """Sample table rows until all observed values in x are matched; rows without a match are sampled again.

    The leading observed columns, `leading_mask`, are fixed while sampling, so they always match.
    """
    decoder, order, code_weights = proposals.decoder, proposals.order, proposals.code_weights
    accepted_rows, open_rows = x.clone(), torch.arange(len(x), device=x.device)
    num_tries, num_proposed = 1, 0
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
        u = decoder.uniform(round_rng, len(x), num_tries)[open_rows]
        index = open_rows.repeat_interleave(num_tries)
        rows, log_weights = decoder(
            x[index], leading_mask[index], u.flatten(0, 1), None if order is None else order[index]
        )
        is_match = ((rows == x[index]) | ~observed_mask[index]).all(1)
        if code_weights or decoder.log_weights:
            codes = decoder.network.space.decode(rows)
            probs = log_weights.exp() if decoder.log_weights else torch.ones_like(log_weights)
            for column, weight_fn in code_weights.items():
                probs = probs * weight_fn(codes[:, column])
            u_accept = round_rng.stream("taken").uniform((len(x), num_tries), torch.float64, x.device)[open_rows]
            is_match &= u_accept.flatten() < probs
        is_match = is_match.reshape(-1, num_tries)
        first_match, has_match = is_match.long().argmax(1), is_match.any(1)
        first_rows = rows.reshape(len(open_rows), num_tries, -1)[torch.arange(len(open_rows)), first_match]
        accepted_rows[open_rows[has_match]] = first_rows[has_match]
        open_rows, num_proposed, num_tries = (
            open_rows[~has_match],
            num_proposed + num_tries,
            min(2 * num_tries, MAX_PROPOSALS_PER_ROUND),
        )
        on_progress(1 - len(open_rows) / max(len(x), 1))
    return accepted_rows


def weighted_completions(
    network: Any,
    x: Int64[Tensor, "m places"],
    observed_mask: Bool[Tensor, "m places"],
    rng: Rng,
    rows: Int64[Tensor, " m"],
    num_candidates: int,
    *,
    any_order: bool,
) -> tuple[Int64[Tensor, "m candidates places"], Float[Tensor, "m candidates"]]:
    """Sample completions of rows, and return them with their log importance weights.

    Args:
        network: A network of rows.
        x: Tokens of whole rows.
        observed_mask: True for observed tokens.
        rng: Random numbers.
        rows: Index of each row, which addresses its random numbers.
        num_candidates: Number of completions per row.
        any_order: True if the network was trained on all orders; then all weights of a row are equal.
    """
    decoder = RowDecoder(network, TokenSampler())
    n = int(rows.max()) + 1 if len(rows) else 0
    u = decoder.uniform(rng.fold_in("ways"), n, num_candidates)[rows.to(x.device)]
    order = _observed_first(network, observed_mask) if any_order else None
    return _weighted(decoder, torch.where(observed_mask, x, 0), observed_mask, u, order)


def _observed_first(
    network: Any, observed_mask: Bool[Tensor, "n places"], second: Sequence[int] = ()
) -> Int64[Tensor, "n places"]:
    """Return the token order in which the observed columns come first, and then the columns `second`."""
    key = (~observed_mask[:, network.grammar.first_place]).long() * (len(second) + 1)
    for rank, column in enumerate(second, 1):
        key[:, column] = key[:, column].clamp(max=rank)
    return network.space.token_order(key.argsort(dim=1, stable=True))


def _weighted(
    decoder: RowDecoder, x: Tensor, observed_mask: Tensor, u: Tensor, order: Tensor | None
) -> tuple[Int64[Tensor, "n candidates places"], Float[Tensor, "n candidates"]]:
    """Return candidates of each row and their log weights, for uniform numbers u [n, candidates, places]."""
    n, num_candidates = u.shape[:2]
    rows, log_weights = decoder(
        x.repeat_interleave(num_candidates, 0),
        observed_mask.repeat_interleave(num_candidates, 0),
        u.flatten(0, 1),
        None if order is None else order.repeat_interleave(num_candidates, 0),
    )
    return rows.reshape(n, num_candidates, x.shape[1]), log_weights.reshape(n, num_candidates)


def _importance_resample(
    decoder: RowDecoder, x: Tensor, observed_mask: Tensor, rng: Rng, num_candidates: int
) -> Int64[Tensor, "n places"]:
    """Sample `num_candidates` rows given the observed values for each row, and select one of them.

    The probability of selection is proportional to the importance weight, which corrects for the observed values that
    the sampler did not anticipate.
    """
    u = decoder.uniform(rng.fold_in("ways"), len(x), num_candidates)
    rows, log_weights = _weighted(decoder, x, observed_mask, u, None)
    weights = (log_weights - log_weights.amax(1, keepdim=True)).exp()
    index = categorical(weights, rng.stream("way").uniform((len(x),), torch.float64, x.device))
    return rows[torch.arange(len(x), device=x.device), index]


def _check_observed(space: TableTokens, x: Int64[Tensor, "n places"], observed_mask: Bool[Tensor, "n places"]) -> None:
    """Check that observed tokens are valid, and that columns are observed entirely or not at all."""
    is_invalid = observed_mask & ((x < 0) | (x >= torch.tensor(space.vocab_sizes, device=x.device)))
    if is_invalid.any():
        row, position = is_invalid.nonzero()[0].tolist()
        raise UsageError(
            f"a token from 0 to {space.vocab_sizes[position] - 1} at position {position}",
            int(x[row, position]),
            "Set the mask of this token to False to sample it",
            row=row,
        )
    if any((mask.any(1) != mask.all(1)).any() for mask in observed_mask.split(space.tokens_per_column, 1)):
        raise UsageError("a column must be observed entirely or not at all", remedy="Mask all of its tokens, or none")


def _check_fits(
    columns: list[int],
    allowed: Bool[Tensor, "n tokens"],
    tokens: Tensor,
    is_observed: Bool[Tensor, " n"],
    position: Tensor,
) -> None:
    is_invalid = ~torch.where(is_observed, allowed.gather(1, tokens[:, None])[:, 0], allowed.any(1))
    if is_invalid.any():
        row = int(is_invalid.nonzero()[0])
        raise UsageError(
            "no valid row contains all given values",
            remedy=f"Check the constraints of the schema on column {columns[int(position[row])]}",
            row=row,
        )
