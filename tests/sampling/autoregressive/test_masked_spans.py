"""Masking of spans: inverse and distribution."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.sampling.autoregressive.masked_spans import (
    Document,
    Span,
    SpanMasking,
    mask_spans,
    read_document,
    restore_spans,
    sample_spans,
    segments,
)
from tests.errors import refuses

S = DocumentVocabulary(text=30, codes=20, picture=9)


def document(*lengths: int, seed: int = 0) -> np.ndarray:
    """Return a document of segments of these lengths: codes if of 9 tokens, else text."""
    random = np.random.default_rng(seed)
    parts = [np.array([S.eos])]
    for length in lengths:
        low, high = (S.text, S.eos) if length == S.picture else (0, S.text)
        parts += [random.integers(low, high, length), np.array([S.break_token])]
    return np.concatenate(parts)


def uniform(law: SpanMasking, n: int, seed: int = 0) -> list[list[float]]:
    return np.random.default_rng(seed).random((n, law.numbers)).tolist()


def drawn(law: SpanMasking, tokens: np.ndarray, n: int, seed: int = 0) -> list[list[Span]]:
    return [sample_spans(law, Document(tokens, ()), S, u) for u in uniform(law, n, seed)]


def spans_of(tokens: np.ndarray, kinds: list[int]) -> list[Span]:
    """Read off spans: of the tokens of contents in their order 0 is kept, 1 hidden, 2 hidden in a hole of its own."""
    spans: list[Span] = []
    for place, kind in zip((place for a, b in segments(tokens, S) for place in range(a, b)), kinds, strict=False):
        if kind == 1 and spans and spans[-1][1] == place:
            spans[-1] = (spans[-1][0], place + 1)
        elif kind:
            spans.append((place, place + 1))
    return spans


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.lists(st.integers(0, 12), max_size=4), st.lists(st.integers(0, 2), min_size=48, max_size=48))
def test_restore_spans_inverts_mask_spans(lengths: list[int], kinds: list[int]) -> None:
    tokens = document(*lengths)
    spans = spans_of(tokens, kinds)
    hidden = mask_spans(tokens, spans, S)
    assert np.array_equal(restore_spans(hidden.tokens, S), tokens)
    closed = np.concatenate([hidden.tokens, [S.eos, S.pad, S.pad]])
    assert np.array_equal(restore_spans(closed, S), tokens)
    assert len(hidden.tokens) == len(tokens) + 2 * len(spans)
    assert (hidden.tokens == S.mask).sum() == (hidden.tokens == S.infill).sum() == len(spans)
    sentinel = (hidden.tokens == S.mask) | (hidden.tokens == S.infill)
    assert np.array_equal(hidden.weight, 1.0 - sentinel)


@pytest.mark.parametrize("n", range(1, 17))
def test_every_number_of_spans_is_restored(n: int) -> None:
    """Spans of length 1, at both ends of segments, and drawn ones."""
    tokens = document(12, 9, 20, 9, 3)
    ends = [span for a, b in segments(tokens, S) for span in ((a, a + 1), (b - 1, b))]
    law = SpanMasking(text_prob=0.0, mean=64.0, max_spans=n)
    for spans in (ends[:n], *drawn(law, tokens, 20, n)):
        assert np.array_equal(restore_spans(mask_spans(tokens, spans, S).tokens, S), tokens)
    assert max(map(len, drawn(law, tokens, 20, n))) == n


def test_layout_of_the_paper() -> None:
    """Image of <mask>: [image] <infill> a chameleon."""
    tokens = np.array([S.eos, 1, 2, 3, 4, S.break_token, *range(30, 39), S.break_token])
    hidden = mask_spans(tokens, [(2, 4), (8, 15)], S)
    expected = [
        S.eos,
        1,
        S.mask,
        4,
        S.break_token,
        30,
        31,
        S.mask,
        S.break_token,
        S.infill,
        2,
        3,
        S.infill,
        *range(32, 39),
    ]
    assert hidden.tokens.tolist() == expected


@pytest.mark.parametrize("spans", [[(2, 2)], [(1, 3), (2, 4)], [(3, 6)], [(0, 2)], [(16, 19)]])
def test_impossible_spans_are_refused(spans: list[Span]) -> None:
    with refuses(UsageError):
        mask_spans(document(4, 9), spans, S)


@pytest.mark.parametrize("tokens", [[S.eos, S.mask, S.break_token], [S.eos, 1, S.break_token, S.infill, 2]])
def test_masks_without_fills_are_refused(tokens: list[int]) -> None:
    with refuses(InputError):
        restore_spans(np.array(tokens), S)


def test_answers_are_masked_whole_without_their_marks() -> None:
    row = np.array(
        [
            S.eos,
            1,
            S.answer_start,
            2,
            3,
            S.answer_end,
            4,
            S.answer_start,
            5,
            S.answer_end,
            S.break_token,
            *range(30, 39),
            S.break_token,
        ]
    )
    found = read_document(np.concatenate([row, [S.pad] * 3]), S)
    assert found.tokens.tolist() == [S.eos, 1, 2, 3, 4, 5, S.break_token, *range(30, 39), S.break_token]
    assert found.answers == ((2, 4), (5, 6))
    for u in uniform(SpanMasking(text_prob=0.5), 200):
        assert sample_spans(SpanMasking(text_prob=0.5), found, S, u) == [(2, 4), (5, 6)]
    law = SpanMasking(text_prob=1.0, answer_span_prob=1.0, mean=3.0)
    for u in uniform(law, 200):
        spans = sample_spans(law, found, S, u)
        assert {(2, 4), (5, 6)} < set(spans)
        assert np.array_equal(restore_spans(mask_spans(found.tokens, spans, S).tokens, S), found.tokens)


def test_documents_without_marks_may_stay_unmasked() -> None:
    assert not any(drawn(SpanMasking(span_prob=0.0, text_prob=0.0), document(7, 9), 100))
    assert read_document(np.array([S.eos, 1, S.answer_start, S.answer_end, S.break_token]), S).answers == ()


@pytest.mark.parametrize(
    "row",
    [
        [S.eos, S.answer_start, 1, S.break_token],
        [S.eos, S.answer_end, 1, S.answer_start, S.break_token],
        [S.eos, S.answer_start, 1, S.answer_start, 2, S.answer_end, S.answer_end, S.break_token],
        [S.eos, S.answer_start, 1, S.break_token, 2, S.answer_end, S.break_token],
    ],
)
def test_unbalanced_answer_marks_are_refused(row: list[int]) -> None:
    with refuses(InputError):
        read_document(np.array(row), S)


def test_number_of_spans_is_a_clipped_poisson() -> None:
    """The chances of each number are the lengths of the pieces of [0, 1) that lead to it; the mean is 1 + 1/e."""
    law = SpanMasking()
    edges, below = [], 0.0
    for k in range(16):
        below += math.exp(-1) / math.factorial(k)
        edges.append(below)
    for n, edge in enumerate(edges[1:-1], 1):  # between the numbers n and n + 1
        if edge < 1 - 1e-14:
            assert (law.number(edge - 1e-15), law.number(edge + 1e-15)) == (n, n + 1)
    assert law.number(0.0) == 1
    assert law.number(np.nextafter(1.0, 0.0)) <= 16
    assert SpanMasking(mean=64.0).number(0.999) == 16
    chances = np.diff([0.0, *edges[1:-1], 1.0])
    assert chances[0] == pytest.approx(2 / math.e)
    assert chances @ np.arange(1, 16) == pytest.approx(1 + 1 / math.e, abs=1e-9)


@pytest.mark.slow
def test_span_statistics() -> None:
    """25,000 documents; each figure is let off by 5 standard errors, a false alarm in one of 1.7 million."""
    n, text, picture = 25_000, 16, 9
    tokens = document(text, picture)
    found = drawn(SpanMasking(text_prob=0.0), tokens, n)
    number = np.array(list(map(len, found)))

    def check(sample: np.ndarray, truth: float) -> None:
        assert abs(sample.mean() - truth) < 5 * sample.std() / math.sqrt(len(sample))

    check(number == 1, 2 / math.e)
    check(number, 1 + 1 / math.e)
    single = [spans[0] for spans in found if len(spans) == 1]
    in_text = np.array([b <= text + 1 for _, b in single])
    check(in_text, 0.5)
    length = np.array([b - a for a, b in single])
    check(length[in_text], (text + 2) / 3)  # of two different ends among 0 to s, both uniform
    check(length[~in_text], (picture + 2) / 3)
    check((length == text)[in_text], 2 / (text * (text + 1)))
    check(np.array([a for a, _ in single])[in_text], 1 + (text - 1) / 3)


@pytest.mark.slow
def test_overlapping_spans_are_redrawn() -> None:
    """Against drawing anew itself, where it happens often; 5 standard errors for each of 31 outcomes."""
    tokens, n = document(2, 3), 12_000
    law = SpanMasking(text_prob=0.0, mean=64.0, max_spans=2)
    ours = [tuple(spans) for spans in drawn(law, tokens, n)]
    random = np.random.default_rng(1)
    theirs = []
    for _ in range(n):
        taken: list[Span] = []
        while len(taken) < 2 and not (taken and sum(b - a for a, b in taken) == 5):
            a, b = segments(tokens, S)[random.integers(2)]
            first, last = sorted(random.integers(a, b + 1, 2).tolist())
            if first < last and all(last <= c or d <= first for c, d in taken):
                taken.append((first, last))
        theirs.append(tuple(sorted(taken)))
    outcomes = sorted(set(theirs))
    assert set(ours) == set(outcomes)
    for outcome in outcomes:
        p, q = ours.count(outcome) / n, theirs.count(outcome) / n
        assert abs(p - q) < 5 * math.sqrt((p * (1 - p) + q * (1 - q)) / n)


@pytest.mark.slow
def test_whole_texts_are_masked_at_text_prob() -> None:
    """Every text by one hole each, no picture; 10,000 documents, 5 standard errors."""
    tokens, n = document(5, 9, 12, 9), 10_000
    found = drawn(SpanMasking(span_prob=0.0, text_prob=0.15), tokens, n)
    whole = np.array([spans == [(1, 6), (17, 29)] for spans in found])
    assert abs(whole.mean() - 0.15) < 5 * math.sqrt(0.15 * 0.85 / n)
    assert not any(spans for spans, hidden in zip(found, whole, strict=True) if not hidden)
    assert mask_spans(tokens, found[whole.argmax()], S).tokens[:3].tolist() == [S.eos, S.mask, S.break_token]
    both = drawn(SpanMasking(span_prob=1.0, text_prob=0.15), tokens, n)
    assert all(both)


@pytest.mark.parametrize(("lengths", "most"), [((), 0), ((0,), 0), ((1,), 1), ((1, 1), 2), ((2,), 2)])
def test_short_documents_have_fewer_spans(lengths: tuple[int, ...], most: int) -> None:
    found = drawn(SpanMasking(text_prob=0.0, mean=64.0), document(*lengths), 200)
    assert max(map(len, found)) == most


def test_records_and_settings_out_of_range() -> None:
    law = SpanMasking(span_prob=0.5, text_prob=0.2, answer_span_prob=0.1, mean=2.0, max_spans=3)
    assert from_dict(SpanMasking, to_dict(law)) == law
    for wrong in (
        {"span_prob": 1.5},
        {"text_prob": -0.1},
        {"answer_span_prob": 2.0},
        {"mean": 100.0},
        {"max_spans": 0},
    ):
        with refuses(UsageError):
            SpanMasking(**wrong)


def test_a_batch_takes_milliseconds() -> None:
    """32 documents of 100 tokens; the least of several tries, ten times what it takes."""
    law, tokens = SpanMasking(), document(22, 9, 31, 9, 23)
    assert len(tokens) == 100
    rows = [np.concatenate([tokens, [S.pad] * 4])] * 32
    least = math.inf
    for _ in range(5):
        begun = time.perf_counter()
        u = Rng(0).stream("spans").uniform((32, law.numbers)).tolist()
        for row, numbers in zip(rows, u, strict=True):
            found = read_document(row, S)
            mask_spans(found.tokens, sample_spans(law, found, S, numbers), S)
        least = min(least, time.perf_counter() - begun)
    assert least < 0.05
