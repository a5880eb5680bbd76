"""Tokenizer of a table column whose values are sequences of symbols, such as the subwords of a text."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.spaces.table_tokens import ColumnTokenizer, Transitions


@dataclass(frozen=True)
class TrieLevel:
    """One token of a `TrieTokenizer`: the groups of values that have the same choices up to this token.

    Groups are numbered by their smallest code. A value whose choices have all been made stays a group of its own.
    """

    group_of_code: tuple[int, ...]
    """Group of each code."""
    parents: tuple[int, ...]
    """Group at the level before, of each group; 0 at the first level."""
    positions: tuple[int, ...]
    """Position in the sequences of the symbol that distinguishes a group from its siblings; 0 if it has none."""
    codes: tuple[int, ...]
    """Smallest code of each group."""


@dataclass(frozen=True)
class TrieTokenizer(ColumnTokenizer):
    """Tokenizer of values that are sequences of symbols: one token per choice in the trie of the sequences.

    Where all values that begin alike go on alike, there is no choice and no token. The last token is the code.
    """

    ends_in_code: ClassVar[bool] = True
    sequences: tuple[tuple[int, ...], ...]
    """Symbols of each value; no sequence begins with another one."""

    def __post_init__(self) -> None:
        if not self.sequences:
            raise UsageError(argument="sequences", expected="at least one value", found="none")
        if (pair := prefix_pair(self.sequences)) is not None:
            found = f"value {pair[1]} begins with value {pair[0]}"
            raise UsageError(argument="sequences", expected="values none of which begins with another", found=found)

    @property
    def num_values(self) -> int:
        return len(self.sequences)

    @property
    def num_tokens(self) -> int:
        return len(self.levels)

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        return tuple(len(level.codes) for level in self.levels)

    @functools.cached_property
    def levels(self) -> tuple[TrieLevel, ...]:
        """Groups of values after each token; after the last one, each value is a group."""
        groups, levels = [(0, [*range(self.num_values)])], list[TrieLevel]()
        while not levels or len(groups) < self.num_values:
            children = []
            for parent, (start, codes) in enumerate(groups):
                position = self._next_choice(codes, start)
                by_symbol: dict[int, list[int]] = {}
                for code in codes:
                    symbol = self.sequences[code][position] if len(codes) > 1 else 0
                    by_symbol.setdefault(symbol, []).append(code)
                children += [(members[0], parent, position, members) for members in by_symbol.values()]
            children.sort()
            group_of_code = {code: i for i, (*_, members) in enumerate(children) for code in members}
            codes, parents, positions, _ = zip(*children, strict=True)
            levels.append(TrieLevel(tuple(group_of_code[i] for i in range(self.num_values)), parents, positions, codes))
            groups = [(position + 1, members) for _, _, position, members in children]
        return tuple(levels)

    def _next_choice(self, codes: list[int], start: int) -> int:
        """Return the first position from `start` at which values differ; 0 for a single value."""
        if len(codes) == 1:
            return 0
        first = self.sequences[codes[0]]
        return next(
            i for i in range(start, len(first)) if any(self.sequences[code][i] != first[i] for code in codes[1:])
        )

    def transitions(self) -> list[Transitions]:
        """Return the automaton that accepts the values; the state is the token before."""
        tables, num_states = [], 1
        for level in self.levels:
            table = torch.full((num_states, len(level.codes)), -1, dtype=torch.long)
            table[torch.tensor(level.parents), torch.arange(len(level.codes))] = torch.arange(len(level.codes))
            tables.append(table)
            num_states = len(level.codes)
        return tables

    def encode(self, codes: Tensor) -> Tensor:
        table = torch.tensor([level.group_of_code for level in self.levels], device=codes.device)
        return table.T[codes]

    def decode(self, tokens: Tensor) -> Tensor:
        return tokens[..., -1]


def prefix_pair(sequences: Sequence[tuple[int, ...]]) -> tuple[int, int] | None:
    """Return the indices of two sequences, the second of which begins with the first or equals it; None without any."""
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    for a, b in itertools.pairwise(order):
        if sequences[b][: len(sequences[a])] == sequences[a]:
            return a, b
    return None
