"""Which tokens a row may go on with, so that it can be ended."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.spaces.table_tokens import PairConstraint, TableTokens


class Grammar(nn.Module):
    """Tables of a space of rows, that follow the network from device to device.

    A token may stand where its column has a value that goes on so, and where the columns that are not written yet can
    be filled by the rules. The rules form no circle, so that one sweep over them and back decides.
    """

    follow: Tensor
    """[places, states, tokens]: state that follows, -1 where the token may not stand."""

    def __init__(self, rows: TableTokens) -> None:
        super().__init__()
        tables = [table for field in rows.columns for table in field.transitions()]
        states, tokens = (max(table.shape[axis] for table in tables) for axis in (0, 1))
        follow = torch.full((len(tables), states, tokens), -1, dtype=torch.long)
        for place, table in enumerate(tables):
            follow[place, : table.shape[0], : table.shape[1]] = table
        self.register_buffer("follow", follow, persistent=False)
        begins = torch.tensor([within == 0 for width in rows.tokens_per_column for within in range(width)])
        self.begins: list[bool] = begins.tolist()
        self.columns: list[int] = [column for column, width in enumerate(rows.tokens_per_column) for _ in range(width)]
        self.first: list[int] = begins.nonzero()[:, 0].tolist()
        """Place where each column begins."""
        self.most = tokens
        self.sweeps: list[tuple[int, int, str]] = []
        for number, rule in enumerate(_towards_root(rows)):
            name = f"rule_{number}"
            self.register_buffer(name, rule.allowed_mask(), persistent=False)
            self.sweeps.append((rule.first, rule.second, name))
        self.ruled = sorted({column for first, second, _ in self.sweeps for column in (first, second)})

    def allowed(
        self, x: Int64[Tensor, "*b places"], step: Int64[Tensor, "*b places"] | None = None
    ) -> Bool[Tensor, "*b places tokens"]:
        """Mark the tokens that may stand at each place, given those that were written before it.

        Args:
            x: Tokens.
            step: When each place is written, from 0; by default from left to right.
        """
        own = self._within(x)
        if not self.ruled:
            return own
        step = torch.arange(x.shape[-1], device=x.device).expand(x.shape) if step is None else step
        codes, when = x[..., self.first], step[..., self.first]
        marks = own.clone()
        for column in self.ruled:
            written = when < when[..., column, None]
            marks[..., self.first[column], :] &= self.fitting(codes, written)[..., column, :]
        return marks

    def allowed_at(
        self,
        x: Int64[Tensor, "b places"],
        step: Int64[Tensor, "b places"],
        place: Int64[Tensor, " b"],
        known: Bool[Tensor, "b places"] | None = None,
    ) -> Bool[Tensor, "b tokens"]:
        """Mark the tokens that may stand at one place of each row, given those written before it, or known."""
        everyone = torch.arange(x.shape[0], device=x.device)
        own = self.follow[place, 0] >= 0 if all(self.begins) else self._within(x)[everyone, place]
        if not self.ruled:
            return own
        written = step[:, self.first] < step[everyone, place][:, None]
        written = written if known is None else written | known[:, self.first]
        column = torch.tensor(self.columns, device=x.device)[place]
        ruled = torch.isin(column, torch.tensor(self.ruled, device=x.device))
        return own & (self.fitting(x[:, self.first], written)[everyone, column] | ~ruled[:, None])

    def _within(self, x: Int64[Tensor, "*b places"]) -> Bool[Tensor, "*b places tokens"]:
        """Mark what each column's own automaton admits."""
        found = []
        state = x.new_zeros(x.shape[:-1])
        for place, begins in enumerate(self.begins):
            state = torch.zeros_like(state) if begins else state
            follow = self.follow[place, state]
            found.append(follow >= 0)
            state = follow.gather(-1, x[..., place, None])[..., 0].clamp(min=0)
        return torch.stack(found, -2)

    def fitting(
        self, codes: Int64[Tensor, "*b columns"], written: Bool[Tensor, "*b columns"]
    ) -> Bool[Tensor, "*b columns tokens"]:
        """Mark the values of each column with which the columns that are not written can be filled, by the rules.

        Columns without a rule are not looked at. What is written must fit itself.
        """
        values = torch.arange(self.most, device=codes.device)
        there = self.follow[self.first, 0] >= 0
        marks = there & (~written[..., None] | (values == codes[..., None]))
        for first, second, name in self.sweeps:  # towards the root, then back
            marks[..., first, :] &= self._meet(marks[..., second, :], name, back=True)
        for first, second, name in reversed(self.sweeps):
            marks[..., second, :] &= self._meet(marks[..., first, :], name, back=False)
        return marks

    def _meet(self, marks: Bool[Tensor, "*b tokens"], name: str, *, back: bool) -> Bool[Tensor, "*b tokens"]:
        """Mark values of one column of a rule that some marked value of the other admits."""
        table: Tensor = getattr(self, name)
        table = table.T if back else table
        met = marks[..., : table.shape[0]].float() @ table.float() > 0
        return F.pad(met, (0, self.most - met.shape[-1]))


def _towards_root(rows: TableTokens) -> list[PairConstraint]:
    """Return the rules with the column that is nearer to a root first, the farthest from it in front."""
    near: dict[int, list[PairConstraint]] = {}
    for rule in rows.constraints:
        near.setdefault(rule.first, []).append(rule)
        near.setdefault(rule.second, []).append(rule.transposed())
    seen: set[int] = set()
    outward: list[PairConstraint] = []
    for root in sorted(near):
        front = [] if root in seen else [root]
        seen.add(root)
        for column in front:  # grows as it goes
            fresh = [rule for rule in near[column] if rule.second not in seen]
            outward += fresh
            front += [rule.second for rule in fresh]
            seen.update(rule.second for rule in fresh)
    return outward[::-1]
