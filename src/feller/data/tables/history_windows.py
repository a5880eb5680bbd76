"""Windows of histories: a row of a person with the row before, of which private marginals are counted.

Each person contributes one window, so that counts of windows have the sensitivity of counts of a plain table.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.core.rng import Rng, categorical
from feller.data.tables.column import ModelledColumn
from feller.data.tables.constraints import repair
from feller.data.tables.dates import Datetime
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.spaces import CategoryTokenizer, PairConstraint, TableTokens

TRANSITION_WEIGHT = 4
"""Weight of the pair of a column and the same column of the row before, in marginals of private histories."""
MAX_RUN, MAX_LEFT = 8, 3
"""Numbers up to which windows of linked tables count consecutive rows of a kind, and rows after a row."""

KindRule = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Function (step, kinds, kinds of the rows before, lengths) -> kinds that may be there, where possible the same."""


@dataclass(frozen=True, eq=False)
class HistoryWindows:
    """Groups of levels of the attributes of a person, of one row, and of the row before, [n, a + 2 k].

    If rows are of several kinds, the last two columns are the number of consecutive rows of the kind of the row before,
    and the number of rows after the row, so that numbers of children are learned.
    """

    persons: Table
    """Modality of the attributes; the first column is the number of rows."""
    rows: Table
    """Modality of single rows."""
    min_rows: int
    """Minimum number of rows per person, 0 or 1."""
    max_rows: int
    max_groups: int = 0
    """Maximum number of groups into which the bins of a number or date are merged; 0 to keep all bins."""
    has_kinds: bool = False
    """True if the first column of a row is its kind, such as its table."""

    @cached_property
    def _groups(self) -> list[Int64[np.ndarray, " levels"]]:
        """Group of each level of each column of attributes and rows."""
        lengths, *columns = (*self.persons.schema.modelled, *self.rows.schema.modelled)
        alone = np.arange(2 - self.min_rows)  # at most one row: the row before is that of nobody
        several = len(lengths.level_names) - len(alone)
        merged = (
            np.arange(several) * self.max_groups // several if 0 < self.max_groups < several else np.arange(several)
        )
        return [np.append(alone, len(alone) + merged), *(_groups_of(column, self.max_groups) for column in columns)]

    @property
    def _num_groups(self) -> list[int]:
        return [int(groups[-1]) + 1 for groups in self._groups]

    def windows(
        self,
        persons: Int64[Tensor, "n a"],
        rows: Int64[Tensor, "n max_rows k"],
        uniforms: Float64[Tensor, " n"],
    ) -> Int64[Tensor, "n columns"]:
        """Return one window of each person: of a random row after the first one, if there is any.

        The columns of the row before a first row have an extra group.

        Args:
            persons: Codes of the attributes.
            rows: Codes of all rows.
            uniforms: Uniform numbers in [0, 1), which choose the rows.
        """
        later = (persons[:, 0] + self.min_rows - 1).clamp(min=0)
        step = torch.where(later > 0, 1 + (uniforms * later).long(), 0).clamp(max=self.max_rows - 1)
        index = torch.arange(len(persons))
        a = persons.shape[1]
        levels = [self.persons.to_levels(persons)]
        levels += [self.rows.to_levels(rows[index, chosen]) for chosen in (step, (step - 1).clamp(min=0))]
        grouped = [
            torch.from_numpy(groups)[part]
            for part, groups in zip(torch.cat(levels, 1).unbind(1), [*self._groups, *self._groups[a:]], strict=True)
        ]
        joined = torch.stack(grouped, 1)
        before = slice(a + rows.shape[2], None)
        joined[:, before] = torch.where(step[:, None] > 0, joined[:, before], torch.tensor(self._num_groups[a:]))
        if not self.has_kinds:
            return joined
        runs = torch.where(step > 0, _run_lengths(rows[..., 0])[index, (step - 1).clamp(min=0)], 0)
        left = (persons[:, 0] + self.min_rows - 1 - step).clamp(0, MAX_LEFT)
        return torch.cat([joined, torch.stack([runs, left], 1)], 1)

    @cached_property
    def space(self) -> TableTokens:
        """Space of windows. There is no row before exactly in windows of persons with at most one row.

        The row before satisfies no rules of its own.
        """
        a, counts = len(self.persons.counts), self._num_groups
        before = tuple(CategoryTokenizer(count + 1) for count in counts[a:])
        constraints = [
            _grouped(rule, self._groups, start)
            for table, start in ((self.persons, 0), (self.rows, a))
            for rule in table.by_levels().space().constraints
        ]
        several = np.arange(counts[0]) >= 2 - self.min_rows
        for j, field in enumerate(before):
            exists = np.arange(field.num_values) < field.num_values - 1
            constraints.append(PairConstraint(0, len(counts) + j, _mask_text(several[:, None] == exists[None])))
        counters = (CategoryTokenizer(MAX_RUN + 1), CategoryTokenizer(MAX_LEFT + 1)) if self.has_kinds else ()
        if counters:
            mask = several[:, None] == (np.arange(MAX_RUN + 1) > 0)[None]
            constraints.append(PairConstraint(0, len(counts) + len(before), _mask_text(mask)))
        return TableTokens((*map(CategoryTokenizer, counts), *before, *counters), tuple(constraints))

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of columns whose dependence a model of the next row needs.

        Each column of a row with the same column of the row before occurs `TRANSITION_WEIGHT` times.
        """
        a, k = len(self.persons.counts), len(self.rows.counts)
        within = tuple(itertools.combinations(range(a + k), 2))
        across = tuple((a + j, a + k + i) for j in range(k) for i in range(k))
        transitions = tuple((a + j, a + k + j) for j in range(k))
        counters = tuple(itertools.product((a, a + k), (a + 2 * k, a + 2 * k + 1))) if self.has_kinds else ()
        return (*within, *across, *transitions * (TRANSITION_WEIGHT - 1), *counters * TRANSITION_WEIGHT)

    def sample_histories(
        self,
        sample: Callable[[Tensor, Tensor, Rng], Tensor],
        n: int,
        rng: Rng,
        allow: KindRule | None = None,
    ) -> tuple[Int64[Tensor, "n a"], Int64[Tensor, "n max_rows k"]]:
        """Return the codes of attributes and rows, which are sampled one after the other, each given the row before.

        Args:
            sample: Function (windows, mask of observed groups, random streams) -> completed windows.
            n: Number of histories.
            rng: Random streams.
            allow: Function that replaces kinds that may not be there; such rows are sampled again, given the kind.
        """
        a, k = len(self.persons.counts), len(self.rows.counts)
        windows = torch.zeros(n, len(self.space.columns), dtype=torch.int64)
        mask = torch.zeros_like(windows, dtype=torch.bool)
        windows = sample(windows, mask, rng.fold_in("row", 0))
        persons = self._codes(self.persons, windows[:, :a], 0, rng.fold_in("attributes"))
        mask[:, :a] = mask[:, a + k :] = True
        rows = torch.zeros(n, self.max_rows, k, dtype=torch.int64)
        for step in range(self.max_rows):
            active = (persons[:, 0] + self.min_rows > step).nonzero()[:, 0]
            if step and len(active):
                windows[active, a + k : a + 2 * k] = windows[active, a : a + k]
                if self.has_kinds:
                    windows[active, -2] = _run_lengths(rows[active, :step, 0])[:, -1]
                    windows[active, -1] = (persons[active, 0] + self.min_rows - 1 - step).clamp(0, MAX_LEFT)
                windows[active] = sample(windows[active], mask[active], rng.fold_in("row", step))
            if allow is not None and len(active):
                before = rows[active, step - 1, 0] if step else torch.full((len(active),), self.rows.counts[0])
                kinds = allow(step, windows[active, a], before, persons[active, 0] + self.min_rows)
                wrong = kinds != windows[active, a]
                again = active[wrong]
                windows[again, a] = kinds[wrong]
                observed = mask[again]
                observed[:, a], observed[:, a + k :] = True, step > 0
                windows[again] = sample(windows[again], observed, rng.fold_in("allowed", step))
            row_rng = rng.fold_in("within", step)
            rows[active, step] = self._codes(self.rows, windows[active, a : a + k], a, row_rng)
        return persons, rows

    def _codes(self, table: Table, grouped: Int64[Tensor, "n k"], start: int, rng: Rng) -> Int64[Tensor, "n k"]:
        """Return a random code of each group, with the marginals of the table, and repaired to satisfy its rules."""
        levels = torch.empty_like(grouped)
        for j in range(grouped.shape[1]):
            groups = torch.from_numpy(self._groups[start + j])
            shares = (
                torch.tensor(table.marginals[j], dtype=torch.float64) if table.marginals else torch.ones(len(groups))
            )
            weights = (shares + 1e-9) * (groups == torch.arange(int(groups[-1]) + 1)[:, None])
            u = rng.stream("level", j).uniform((len(grouped),), torch.float64)
            levels[:, j] = categorical(weights[grouped[:, j]], u)
        codes = table.from_levels(levels, rng)
        return torch.from_numpy(repair(codes.numpy(), table.schema.pairs, table.counts))


def _run_lengths(kinds: Int64[Tensor, "n rows"]) -> Int64[Tensor, "n rows"]:
    """Return for each row the number of consecutive rows of its kind up to this row, at most `MAX_RUN`."""
    runs = torch.ones_like(kinds)
    for step in range(1, kinds.shape[1]):
        runs[:, step] = torch.where(kinds[:, step] == kinds[:, step - 1], runs[:, step - 1] + 1, 1)
    return runs.clamp(max=MAX_RUN)


def _groups_of(column: ModelledColumn, max_groups: int) -> Int64[np.ndarray, " levels"]:
    """Return the group of each level: neighbouring bins are merged, so that there are at most `max_groups`."""
    count = len(column.level_names)
    values = count - (column.missing is not None)
    if not max_groups or values <= max_groups or not isinstance(column, Numerical | Datetime):
        return np.arange(count)
    merged = np.arange(values) * max_groups // values
    return np.append(merged, max_groups) if count > values else merged


def _grouped(rule: PairConstraint, groups: list[np.ndarray], start: int) -> PairConstraint:
    """Return a rule between two columns as a rule between groups, of which a pair of allowed levels is allowed."""
    first, second = rule.first + start, rule.second + start
    allowed = np.zeros((int(groups[first][-1]) + 1, int(groups[second][-1]) + 1), dtype=bool)
    rows, columns = rule.allowed_mask().numpy().nonzero()
    allowed[groups[first][rows], groups[second][columns]] = True
    return PairConstraint(first, second, _mask_text(allowed))


def _mask_text(allowed: Bool[np.ndarray, "a b"]) -> tuple[str, ...]:
    return tuple("".join("01"[int(cell)] for cell in row) for row in allowed)
