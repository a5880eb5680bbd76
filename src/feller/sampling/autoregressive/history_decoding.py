"""Decoding of histories: the attributes of each person, then row after row.

Observed cells of rows are conditioned on by sequential Monte Carlo: several candidates per history are weighted by the
probability of the observed cells of each row given the rows before, and resampled. This is exact in the limit of many
candidates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng, categorical
from feller.networks.sequence.history_transformer import HistoryKVCache
from feller.networks.sequence.row_transformer import RowKVCache
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.row_decoding import RowDecoder, RowTokenSamplerFn, decode_rows

Observed = tuple[Int64[Tensor, "n places"], Bool[Tensor, "n places"]]


@torch.no_grad()
def decode_histories(
    network: Any,
    n: int,
    rng: Rng,
    *,
    token_sampler: RowTokenSamplerFn = TokenSampler(),  # noqa: B008 - frozen
    observed: Observed | None = None,
    num_candidates: int = 32,
    forbidden: Int64[Tensor, " places"] | None = None,
    code_weights: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
) -> Int64[Tensor, "n places"]:
    """Generate n histories; a sample depends on its index, not on the batch.

    Args:
        network: A network of histories, as of `HistoryTransformer`.
        n: Number of histories.
        rng: Random numbers.
        token_sampler: Sampler of tokens from float64 logits.
        observed: Tokens of histories, and the mask of observed tokens. If cells of a row are observed, the number of
            rows must be observed too.
        num_candidates: Number of candidates per history, if anything is observed and there are no `code_weights`; with
            1, attributes are conditioned on by rejection.
        forbidden: Token per position of a history (-1 for none) to avoid if other tokens are allowed.
        code_weights: For a column of the attributes, function from value codes to weights in [0, 1], which multiply the
            network's probabilities.

    Raises:
        UsageError: If observed values occur in no valid history, or too rarely.
    """
    space, device = network.space, next(network.parameters()).device
    places, row_places = space.num_attribute_places, len(space.rows.vocab_sizes)
    x = torch.zeros(n, space.num_places, dtype=torch.long, device=device)
    x, mask = (x, torch.zeros_like(x, dtype=torch.bool)) if observed is None else observed
    (attributes, rows), (attribute_mask, row_mask) = space.split(x), space.split(mask)
    forbidden_attribute = None if forbidden is None else forbidden[:places].to(device)
    forbidden_row = None if forbidden is None else forbidden[places : places + row_places].to(device)
    attribute_rng = rng.fold_in("attributes")
    if not row_mask.any() and (observed is None or num_candidates == 1 or code_weights):
        attributes = decode_rows(
            network.attributes,
            n,
            attribute_rng,
            token_sampler=token_sampler,
            observed=(attributes, attribute_mask) if attribute_mask.any() else None,
            any_order=False,
            forbidden=forbidden_attribute,
            code_weights=code_weights,
        )
        cells = _Rows(rows, row_mask)
        return space.join(attributes, _fill_rows(network, attributes, cells, rng, token_sampler, forbidden_row))
    if (row_mask.any((1, 2)) & ~attribute_mask[:, 0]).any():
        raise UsageError("the number of rows of each history with observed rows", "none", argument="observed")
    k = num_candidates
    decoder = RowDecoder(network.attributes, token_sampler, forbidden_attribute)
    candidates, log_weights = decoder(
        attributes.repeat_interleave(k, 0),
        attribute_mask.repeat_interleave(k, 0),
        decoder.uniform(attribute_rng, n, k).flatten(0, 1),
    )
    candidates = candidates[_resampled(log_weights.reshape(n, k), attribute_rng)]
    cells = _Rows(rows.repeat_interleave(k, 0), row_mask.repeat_interleave(k, 0), k)
    filled = space.join(candidates, _fill_rows(network, candidates, cells, rng, token_sampler, forbidden_row))
    pick = (rng.stream("candidate").uniform((n,), torch.float64, device) * k).long().clamp(max=k - 1)
    return filled.unflatten(0, (n, k))[torch.arange(n, device=device), pick]


@dataclass(frozen=True)
class _Rows:
    """Observed tokens of the rows of histories, and their mask; equal for all candidates of a history."""

    tokens: Int64[Tensor, "m max_rows row_places"]
    mask: Bool[Tensor, "m max_rows row_places"]
    num_candidates: int = 1


def _fill_rows(
    network: Any,
    attributes: Int64[Tensor, "m attribute_places"],
    observed: _Rows,
    rng: Rng,
    token_sampler: RowTokenSamplerFn,
    forbidden: Tensor | None,
) -> Int64[Tensor, "m max_rows row_places"]:
    """Return the rows of each history, sampled one after the other.

    If there are several candidates per history, they are resampled, together with their `attributes`, after each row
    with observed cells.
    """
    space, rows, k = network.space, observed.tokens.clone(), observed.num_candidates
    n = len(rows) // k
    lengths, cache = space.lengths(attributes), network.init_cache(len(attributes))
    last = None
    for step in range(int(lengths.max()) if len(lengths) else 0):
        context, cache = network.next_context(attributes, last, cache)
        active = (lengths > step).nonzero()[:, 0]
        row_rng = rng.fold_in("row", step)
        before = None if last is None else last[active, 0]
        decoder = RowDecoder(
            _RowsInContext(network, context[active], before, lengths[active] - 1 - step), token_sampler, forbidden
        )
        u = decoder.uniform(row_rng, n, k).flatten(0, 1)[active]
        filled, log_weights = decoder(rows[active, step], observed.mask[active, step], u)
        rows[active, step] = filled
        is_observed = observed.mask[:, step].any(1)
        if k > 1 and is_observed.any():
            weights = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
            weights[active] = log_weights
            ancestors = _resampled(weights.reshape(n, k), row_rng)
            chosen = torch.where(is_observed, ancestors, torch.arange(len(rows), device=rows.device))
            rows[:, : step + 1], attributes[:] = rows[chosen, : step + 1], attributes[chosen]
            cache = HistoryKVCache(cache.keys[:, chosen], cache.values[:, chosen], cache.length)
        last = rows[:, step]
    return rows


def _resampled(log_weights: Float[Tensor, "n k"], rng: Rng) -> Int64[Tensor, " m"]:
    """Return the index of the ancestor of each candidate, with probability proportional to the ancestor's weight.

    Raises:
        UsageError: If all candidates of a history have weight 0.
    """
    n, k = log_weights.shape
    is_impossible = (log_weights == -torch.inf).all(1)
    if is_impossible.any():
        raise UsageError(
            "observed cells with a positive probability under the model",
            "probability 0",
            "Leave cells of this history empty",
            argument="observed",
            row=int(is_impossible.nonzero()[0]),
        )
    weights = (log_weights - log_weights.amax(1, keepdim=True)).exp()
    u = rng.stream("ancestor").uniform((n, k), torch.float64, log_weights.device)
    ancestors = categorical(weights[:, None].expand(n, k, k).flatten(0, 1), u.flatten())
    return (torch.arange(n, device=log_weights.device)[:, None] * k + ancestors.reshape(n, k)).flatten()


class _RowsInContext:
    """Network of rows, each conditioned on the features of its history, with the interface of `RowDecoder`."""

    def __init__(
        self,
        network: Any,
        context: Float[Tensor, "m width"],
        before: Int64[Tensor, " m"] | None,
        remaining: Int64[Tensor, " m"],
    ) -> None:
        self.network, self.kinds, self.context = network.rows, network.kinds, context
        self.before = torch.full_like(context[:, 0], -1, dtype=torch.long) if before is None else before
        self.remaining = remaining
        self.kind: Tensor | None = None
        self.space, self.grammar, self.rows_per_call = self.network.space, self.network.grammar, max(1, len(context))
        self.parameters, self.init_cache = self.network.parameters, self.network.init_cache

    def decode_step(
        self, last: Tensor | None, last_place: Tensor | None, place: Tensor, cache: RowKVCache
    ) -> tuple[Float[Tensor, "m tokens"], RowKVCache]:
        """Return the logits of the next token of each row, as `RowTransformerNetwork.decode_step`."""
        logits, cache = self.network.decode_step(last, last_place, place, cache, self.context)
        if self.kinds is None:
            return logits, cache
        self.kind = last if cache.length == 2 else self.kind
        return self.kinds.step_logits(logits, place, self.before, self.remaining, self.kind), cache
