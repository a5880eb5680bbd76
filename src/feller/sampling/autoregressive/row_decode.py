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
from feller.core.rng import Draws, categorical
from feller.paths.discrete.token_sampler import Choice
from feller.spaces.table_tokens import Rows

Choose = Callable[[Tensor, Tensor], Tensor]
"""(logits [m, K], uniform numbers [m] in float64) -> tokens [m]."""
AT_ONCE, MOST = 64, 20_000
"""Rows that are drawn for each one at once, where they are rare, and in all."""
PART = 2048
"""Rows that go through the network together."""


@torch.no_grad()
def fill(
    network: Any,
    n: int,
    draws: Draws,
    *,
    choice: Choose = Choice(),  # noqa: B008 - frozen
    known: tuple[Int64[Tensor, "n places"], Bool[Tensor, "n places"]] | None = None,
    anyhow: bool = True,
    ways: int = 0,
    never: Int64[Tensor, " places"] | None = None,
    odds: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
) -> Int64[Tensor, "n places"]:
    """Draw n rows, each valid by the network's grammar; what a row draws depends on its number, not on its batch.

    Args:
        network: A `RowNetwork`.
        n: Number of rows.
        draws: Source of the uniform numbers, one for each place.
        choice: Draws tokens from logits, in float64.
        known: Tokens, and which of them are kept: whole columns.
        anyhow: The network has learned every order, so that known columns can come first.
        ways: Where they cannot, weigh so many ways of filling each row, instead of drawing until what is known comes
            out; the law is right in the limit of many.
        never: Token that is not drawn at each place where another may stand, such as that of a missing cell; -1 for
            none.
        odds: Columns of which each code counts that many times as much as the network says, from 0 to 1: rows are drawn
            until one is taken by these odds, which is exact.

    Raises:
        UsageError: If what is known cannot stand in any row, or hardly ever does.
    """
    rows, device = network.rows, network.token.weight.device
    x = torch.zeros(n, len(rows.counts), dtype=torch.long, device=device)
    kept = torch.zeros_like(x, dtype=torch.bool)
    if known is not None:
        x, kept = torch.where(known[1], known[0], 0), known[1]
        _check_known(rows, x, kept)
    how = _Filling(network, choice, None if never is None else never.to(device))
    leading = kept.cumprod(1).bool()
    can_begin = anyhow or torch.equal(leading, kept)
    turn = rows.in_turn((~kept[:, network.grammar.first]).long().argsort(dim=1, stable=True)) if can_begin else None
    if can_begin and not odds:
        return how(x, kept, how.uniform(draws, n), turn)[0]
    if ways:
        return _weighed(how, x, kept, draws, ways)
    return _until_it_fits(how, x, kept, kept if can_begin else leading, turn, draws, odds or {})


@dataclass(frozen=True)
class _Filling:
    """Draws what is not known of rows, place after place."""

    network: Any
    choice: Choose
    never: Tensor | None = None

    def uniform(self, draws: Draws, n: int, *times: int) -> Tensor:
        """Draw the numbers of rows, [n, *times, places]."""
        device = self.network.token.weight.device
        return draws.at("token").uniform((n, *times, len(self.network.rows.counts)), torch.float64, device)

    def __call__(
        self, x: Tensor, kept: Tensor, u: Tensor, turn: Tensor | None = None
    ) -> tuple[Int64[Tensor, "m places"], Float[Tensor, " m"]]:
        """Return whole rows, and how likely what is known of each is beside what was drawn, as a logarithm.

        Earlier columns are drawn so that the known ones can follow; what that leaves out counts.
        """
        parts = [torch.arange(len(x))[start : start + PART] for start in range(0, len(x), PART)] or [torch.arange(0)]
        found = [self._part(x[i], kept[i], u[i], None if turn is None else turn[i]) for i in parts]
        rows, likely = zip(*found, strict=True)
        return torch.cat(rows), torch.cat(likely)

    def _part(self, x: Tensor, kept: Tensor, u: Tensor, turn: Tensor | None) -> tuple[Tensor, Tensor]:
        network, grammar, everyone = self.network, self.network.grammar, torch.arange(len(x), device=x.device)
        turn = torch.arange(x.shape[1], device=x.device).expand(x.shape) if turn is None else turn
        step, x, likely = turn.argsort(1), x.clone(), x.new_zeros(len(x), dtype=torch.float64)
        cache, last, before = network.begin(len(x)), None, None
        narrowed = bool(grammar.ruled) and bool(kept.any())
        for number in range(x.shape[1]):
            place = turn[:, number]
            logits, cache = network.next(last, before, place, cache)
            may, token, given = grammar.allowed_at(x, step, place), x[everyone, place], kept[everyone, place]
            fits = grammar.allowed_at(x, step, place, kept) if narrowed else may
            _check_fits(grammar.columns, fits, token, given, place)
            if self.never is not None:
                others = fits & (torch.arange(fits.shape[1], device=x.device) != self.never[place][:, None])
                fits = torch.where(others.any(1, keepdim=True), others, fits)
            logits = logits.double().masked_fill(~may, -torch.inf).log_softmax(1)
            narrow = logits.masked_fill(~fits, -torch.inf)
            drawn = self.choice(narrow, u[everyone, place])
            likely = likely + torch.where(given, logits.gather(1, token[:, None])[:, 0], narrow.logsumexp(1))
            x[everyone, place] = torch.where(given, token, drawn)
            last, before = x[everyone, place], place
        return x, likely


def _until_it_fits(
    how: _Filling,
    x: Tensor,
    kept: Tensor,
    begun: Tensor,
    turn: Tensor | None,
    draws: Draws,
    odds: Mapping[int, Callable[[Tensor], Tensor]],
) -> Int64[Tensor, "n places"]:
    """Draw rows from what they can begin with until all else is as known, and they are taken by the odds."""
    found, open_rows = x.clone(), torch.arange(len(x), device=x.device)
    tries, drawn = 1, 0
    while len(open_rows):
        if drawn >= MOST:
            remedy = "Give less of them, or wider ranges"
            remedy += "" if turn is not None else "; or fit with --objective.shuffled 1, which begins with any column"
            raise UsageError(
                argument="given",
                expected=f"what one of {MOST:,} rows has",
                found=f"none in {len(open_rows)} of {len(x)} searches",
                remedy=remedy,
            )
        again = draws.named("again", drawn)
        u = how.uniform(again, len(x), tries)[open_rows]
        some = open_rows.repeat_interleave(tries)
        rows, _ = how(x[some], begun[some], u.flatten(0, 1), None if turn is None else turn[some])
        fits = ((rows == x[some]) | ~kept[some]).all(1)
        if odds:
            codes = how.network.rows.read(rows)
            chances = torch.stack([weigh(codes[:, column]) for column, weigh in odds.items()]).prod(0)
            coins = again.at("taken").uniform((len(x), tries), torch.float64, x.device)[open_rows]
            fits &= coins.flatten() < chances
        fits = fits.reshape(-1, tries)
        first, any_fits = fits.long().argmax(1), fits.any(1)
        chosen = rows.reshape(len(open_rows), tries, -1)[torch.arange(len(open_rows)), first]
        found[open_rows[any_fits]] = chosen[any_fits]
        open_rows, drawn, tries = open_rows[~any_fits], drawn + tries, min(2 * tries, AT_ONCE)
    return found


def _weighed(how: _Filling, x: Tensor, kept: Tensor, draws: Draws, ways: int) -> Int64[Tensor, "n places"]:
    """Fill each row in some ways, and choose one by how likely what is known is beside what was filled in."""
    u = how.uniform(draws.named("ways"), len(x), ways)
    rows, likely = how(x.repeat_interleave(ways, 0), kept.repeat_interleave(ways, 0), u.flatten(0, 1))
    likely = likely.reshape(-1, ways)
    weights = (likely - likely.amax(1, keepdim=True)).exp()
    which = categorical(weights, draws.at("way").uniform((len(x),), torch.float64, x.device))
    return rows.reshape(len(x), ways, -1)[torch.arange(len(x), device=x.device), which]


def _check_known(rows: Rows, x: Int64[Tensor, "n places"], kept: Bool[Tensor, "n places"]) -> None:
    """Refuse tokens that there are not, and columns of which a part is known."""
    strange = kept & ((x < 0) | (x >= torch.tensor(rows.counts, device=x.device)))
    if strange.any():
        row, place = strange.nonzero()[0].tolist()
        raise UsageError(
            f"a token from 0 to {rows.counts[place] - 1} at place {place}",
            int(x[row, place]),
            "Mark it as not kept to have it drawn",
            row=row,
        )
    if any((part.any(1) != part.all(1)).any() for part in kept.split(rows.places, 1)):
        raise UsageError("a column is known as a whole or not at all", remedy="Mark all of its places, or none")


def _check_fits(
    columns: list[int], may: Bool[Tensor, "n tokens"], token: Tensor, given: Bool[Tensor, " n"], place: Tensor
) -> None:
    """Refuse what is known and cannot stand in a row."""
    wrong = ~torch.where(given, may.gather(1, token[:, None])[:, 0], may.any(1))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise UsageError(
            "no valid row has all that is given",
            remedy=f"See the rules of the schema about column {columns[int(place[row])]}",
            row=row,
        )
