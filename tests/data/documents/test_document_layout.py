"""Documents as rows of symbols, there and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.documents.token_layout import CUT, PICTURE, Hole, Infill, as_array, from_tokens, laid, to_tokens
from feller.data.documents.vocabulary import Symbols
from feller.data.loading.raw import Cut, Said, Shown
from feller.data.text.vocabulary import Characters

SYMBOLS = Symbols(text=4, codes=5, picture=3)
SIGNS = Characters("abcd")
segments = st.one_of(st.just(PICTURE), st.lists(st.integers(0, 3), max_size=4))


def test_numbers_follow_each_other() -> None:
    assert (SYMBOLS.eos, SYMBOLS.cut, SYMBOLS.mask, SYMBOLS.infill, SYMBOLS.count) == (9, 10, 11, 12, 13)
    assert (SYMBOLS.pad, SYMBOLS.read, SYMBOLS.answer, SYMBOLS.answered, SYMBOLS.all) == (13, 14, 14, 15, 16)


def test_a_caption_and_its_picture() -> None:
    rows = as_array([laid([Said("ab"), Shown(0)], SIGNS)])
    tokens = to_tokens(rows, torch.tensor([[4, 0, 2]]), SYMBOLS)
    assert tokens.tolist() == [[9, 0, 1, 10, 8, 4, 6, 10]]


def test_neighbouring_texts_are_one_segment_unless_cut() -> None:
    assert laid([Said("a"), Said("b", hidden=True), Said("c")], SIGNS) == [0, -3, 1, -4, 2, CUT]
    assert laid([Said("a"), Cut(), Said("b")], SIGNS) == [0, CUT, 1, CUT]


def test_holes_and_what_asks_for_them() -> None:
    row = as_array([laid([Said("a"), Hole(), Shown(0), Infill()], SIGNS)])
    assert to_tokens(row, torch.tensor([[0, 1, 2]]), SYMBOLS).tolist() == [[9, 0, 11, 10, 4, 5, 6, 10, 12]]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(segments, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(0, 99))
def test_there_and_back(documents: list[list[int | list[int]]], seed: int) -> None:
    rows = [
        [n for part in parts for n in ([part, CUT] if isinstance(part, int) else [*part, CUT])] for parts in documents
    ]
    shown = sum(part == PICTURE for parts in documents for part in parts)
    codes = torch.randint(0, 5, (shown, 3), generator=torch.Generator().manual_seed(seed))
    tokens = to_tokens(as_array(rows), codes, SYMBOLS)
    back, found = from_tokens(tokens, SYMBOLS)
    assert torch.equal(back, as_array(rows))
    assert torch.equal(found, codes)
    closed = torch.nn.functional.pad(tokens, (0, 1), value=SYMBOLS.eos)  # what comes behind the last <eos> counts not
    assert torch.equal(from_tokens(closed, SYMBOLS)[0], as_array(rows))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([0, 10], "expected <eos> first"),
        ([9, 4, 5, 10], "expected 3 codes"),
        ([9, 4, 5], "expected 3 codes"),
        ([9, 0, 4, 5, 6, 10], "expected 3 codes"),
        ([9, 4, 5, 6, 7, 10], "expected 3 codes"),
        ([9, 11, 10], "expected no holes"),
    ],
)
def test_what_is_no_document_is_refused(row: list[int], words: str) -> None:
    with pytest.raises(InputError, match=f"document 1: {words}"):
        from_tokens(torch.tensor([row]), SYMBOLS)
