"""Grammar of documents."""

import itertools
import re

import pytest
import torch

from feller.core.errors import InputError
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.sampling.autoregressive.document_grammar import (
    Place,
    SymbolKind,
    check_document,
    parse_prefix,
    planned_hole_sizes,
    symbol_kinds,
)
from tests.errors import numbers, refuses
from tests.sampling.autoregressive.readers import spelled, written

SYMBOLS = DocumentVocabulary(text=3, codes=2, picture=4)


@pytest.mark.parametrize(
    "row",
    [
        "E ab B",
        "E ab B E",
        "E ab B 0101 B E",
        "E ab B 0101 B E PPP",
        "E 0101 B 1111 B c B E",
        "E B 0101 B E",
        "E aMb B 0101 B I c E",
        "E M B 0101 B I abc E",
        "E M B I abc E",
        "E M B I 0101 E",
        "E a B M B I 0101 E",
        "E MM B I a I b E",
        "E MM B I 010 I 1 E",
        "E a B 0MM B I 01 I 1 E",
        "E a B M0M1 B I 0 I 1 E",
        "E aM B M01 B Ma B I b I 00 I a E",
        "E a B M B M B I a I 0101 E",
        "E a B E b B 0000 B E aM B I c E",
        "E aM B I c E b B 0000 B E a B E",
    ],
)
def test_complete_documents(row: str) -> None:
    check_document(written(row, SYMBOLS), SYMBOLS)
    assert parse_prefix(written(row, SYMBOLS), SYMBOLS).is_complete


@pytest.mark.parametrize(
    ("row", "expected", "position"),
    [
        ("", ["5"], None),
        ("PP", ["5"], None),
        ("ab B", ["5"], None),
        ("B", ["5"], None),
        ("E a P B", ["0", "8"], 2),
        ("E E", [], 1),
        ("E a B E E", [], 4),
        ("E a E", [], 2),
        ("E aM B E", [], 4),
        ("E aM B I E", [], 5),
        ("E M B M B I a E", [], 7),
        ("E a1", [], 2),
        ("E 1M1a", [], 4),
        ("E 010 B", ["4", "0", "3"], 4),
        ("E 01010 B", ["4", "0", "5"], 6),
        ("E 01010", ["4"], 5),
        ("E 0101M B", ["4", "1", "4"], 6),
        ("E 01M", [], 4),
        ("E I", [], 1),
        ("E a I", [], 2),
        ("E a B I", ["0"], 3),
        ("E aM B I b I c", ["1"], 6),
        ("E aM B I b B", [], 6),
        ("E aM B I 0", [], 5),
        ("E aM B I M", [], 5),
        ("E aM B Ma B I I c", [], 8),
        ("E 0M B I a", [], 5),
        ("E 0M B I 0000", ["3"], 9),
        ("E 0M B aM B I 00 I b", ["3"], 10),
        ("E 00MM B I 00 I", ["2"], 9),
        ("E MM B I 0000", ["4"], 9),
    ],
)
def test_malformed_documents_are_refused(row: str, expected: list[str], position: int | None) -> None:
    for check in (parse_prefix, check_document):
        with refuses(InputError) as caught:
            check(written(row, SYMBOLS), SYMBOLS)
        assert numbers(caught.value.expected) == expected
        assert position is None or numbers(caught.value.found)[-1] == str(position)


@pytest.mark.parametrize(
    ("row", "place", "left", "said", "opened"),
    [
        ("E", Place.BARE, 0, 0, 0),
        ("E a B E", Place.BARE, 0, 0, 0),
        ("E ab", Place.TEXT, 0, 2, 0),
        ("E aM B", Place.BETWEEN, 0, 0, 0),
        ("E M", Place.TEXT, 0, 1, 0),
        ("E a B 01", Place.PICTURE, 2, 2, 0),
        ("E a B 0101", Place.PICTURE, 0, 4, 0),
        ("E aM B I", Place.FILL_TEXT, 0, 0, 1),
        ("E aM B bM B I aa I cb", Place.FILL_TEXT, 0, 2, 2),
        ("E 0MM B I", Place.FILL_PICTURE, 3, 0, 1),
        ("E 0MM B I 0 I 1", Place.FILL_PICTURE, 1, 1, 2),
        ("E M B I", Place.OPENED, 0, 0, 1),
        ("E M B I 01", Place.FILL_PICTURE, 2, 2, 1),
        ("E MM B I a I", Place.FILL_TEXT, 0, 0, 2),
        ("E MM B I 0 I", Place.FILL_PICTURE, 3, 0, 2),
        ("E MM B", Place.BETWEEN, 0, 0, 0),
    ],
)
def test_parser_state_of_prefixes(row: str, place: Place, left: int, said: int, opened: int) -> None:
    found = parse_prefix(written(row, SYMBOLS), SYMBOLS)
    assert (found.place, found.codes_left, found.segment_length, found.num_opened) == (place, left, said, opened)
    if row not in ("E a B E", "E aM B bM B I aa I cb"):
        assert not found.is_complete
        with refuses(InputError) as caught:
            check_document(written(row, SYMBOLS), SYMBOLS)
        assert numbers(caught.value.found)[0] == str(left)


def test_all_short_documents_against_a_regular_expression() -> None:
    """Every row of up to 7 symbols from four that begins with <eos>: complete or not, and which can be mended."""
    symbols = DocumentVocabulary(text=1, codes=1, picture=2)
    whole = re.compile(r"(E((a*|00)B)+)(E((a*|00)B)+)*E?")
    begun = re.compile(r"(E((a*|00)B)+)*E((a*|00)B)*(a*|0|00)")
    complete = 0
    for length in range(7):
        for rest in itertools.product("Ea0B", repeat=length):
            text = "E" + "".join(rest)
            row = written(text, symbols)
            try:
                found = parse_prefix(row, symbols)
            except InputError:
                assert not begun.fullmatch(text), text
                continue
            assert begun.fullmatch(text), text
            assert found.is_complete == bool(whole.fullmatch(text)), text
            complete += found.is_complete
    assert complete > 100


def test_kinds_of_symbols() -> None:
    names = {
        SymbolKind.TEXT: "abc",
        SymbolKind.CODE: "01",
        SymbolKind.EOS: "E",
        SymbolKind.BREAK: "B",
        SymbolKind.MASK: "M",
        SymbolKind.INFILL: "I",
    }
    spelling = spelled(torch.arange(SYMBOLS.num_outputs), SYMBOLS)
    assert spelling == "".join(names.values())
    assert symbol_kinds(SYMBOLS).tolist() == [kind for kind, letters in names.items() for _ in letters]


@pytest.mark.parametrize(
    ("row", "codes", "sizes"),
    [
        ("E aMb B 0M1 B", (), [0, 2]),
        ("E M B", (), [0]),
        ("E MM B 0M1M B", (), [0, 0, 0, 0]),
        ("E M B 0M1M B", (0, 1, 1), [0, 1, 1]),
        ("E M B 0M1M B", (4, 1, 1), [4, 1, 1]),
        ("E 0M B I 111 E aMb B M1 B", (), [3, 0, 3]),
        ("E 0M1M B I 1 I 1 E M11 B", (), [1, 1, 2]),
        ("E 0M1M B I 1 I 1 E M11 B", (2,), [1, 1, 2]),
        ("E M B MM B I 0101 I 1 I 111 E aMb B I c", (), [4, 1, 3, 0]),
    ],
)
def test_planned_hole_sizes(row: str, codes: tuple[int, ...], sizes: list[int]) -> None:
    tokens = written(row, SYMBOLS)
    found = planned_hole_sizes(tokens, parse_prefix(tokens, SYMBOLS), SYMBOLS, codes)
    assert found[tokens == SYMBOLS.mask].tolist() == sizes
    assert not found[tokens != SYMBOLS.mask].any()
