"""Tokens of values that are sequences of symbols: choices in their trie."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feller.core.errors import UsageError
from feller.spaces.trie_tokenizer import TrieTokenizer
from tests.errors import refuses
from tests.spaces.test_table_tokens import words

END = 3
VALUES = st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=12, unique_by=tuple)


@given(VALUES)
def test_tokens_are_the_choices_among_values(values: list[list[int]]) -> None:
    sequences = tuple((*value, END) for value in values)
    field = TrieTokenizer(sequences)
    codes = torch.arange(len(values))
    tokens = field.encode(codes)
    assert torch.equal(field.decode(tokens), codes)
    assert tokens.shape == (len(values), field.num_tokens)
    assert sorted(words(field)) == sorted(map(tuple, tokens.tolist()))
    assert field.vocab_sizes == tuple(table.shape[1] for table in field.transitions())
    for level in field.levels:
        for group, (parent, position, code) in enumerate(zip(level.parents, level.positions, level.codes, strict=True)):
            siblings = [c for c, p in zip(level.codes, level.parents, strict=True) if p == parent and c != code]
            assert level.group_of_code[code] == group
            assert all(sequences[c][:position] == sequences[code][:position] for c in siblings)
            assert all(sequences[c][position] != sequences[code][position] for c in siblings)


def test_forced_symbols_are_no_tokens() -> None:
    assert TrieTokenizer(((5, 1, 2, 9), (5, 1, 3, 8, 9), (5, 1, 4, 9))).vocab_sizes == (3,)
    assert TrieTokenizer(((5, 1, 9), (5, 1, 2, 9), (6, 9))).vocab_sizes == (2, 3)
    assert TrieTokenizer(((5, 1, 9),)).vocab_sizes == (1,)


@pytest.mark.parametrize("sequences", [(), ((1, 2), (1,)), ((1, 2), (1, 2)), ((), (1,))])
def test_values_must_be_told_apart(sequences: tuple[tuple[int, ...], ...]) -> None:
    with refuses(UsageError, argument="sequences"):
        TrieTokenizer(sequences)
