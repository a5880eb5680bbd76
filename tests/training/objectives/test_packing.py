"""Packing of samples into rows."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.sampling.autoregressive.masked_spans import MaskedDocument, mask_spans
from feller.training.objectives.packing import (
    best_fit,
    choose_rows,
    emptiest_first,
    join_sample,
    narrowest_best_fit,
    pack_samples,
)
from tests.errors import refuses

S = DocumentVocabulary(text=30, codes=20, picture=4)


def sample(n: int, seed: int) -> MaskedDocument:
    """Return a complete sample of n tokens with distinct weights."""
    random = np.random.default_rng((n, seed))
    tokens = np.concatenate([[S.eos], random.integers(0, S.text, n - 2), [S.eos]])
    return MaskedDocument(tokens, random.random(n).astype(np.float32))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.integers(2, 20), min_size=1, max_size=25))
def test_every_sample_is_packed_once_and_whole(lengths: list[int]) -> None:
    samples = [sample(n, i) for i, n in enumerate(lengths)]
    packed = pack_samples(samples, S, 20)
    assert packed.tokens.shape[1] <= 20
    found = []
    for row in range(len(packed.tokens)):
        own = packed.sample[row]
        assert (own.diff()[own[1:] >= 0] >= 0).all()  # one after the other, padding last
        for k in range(int(own.max()) + 1):
            here = own == k
            n = int(here.sum())
            assert torch.equal(packed.position[row][here], torch.arange(n))
            found.append((packed.tokens[row][here].tolist(), packed.weight[row][here].tolist()))
        empty = own < 0
        assert (packed.tokens[row][empty] == S.pad).all()
        assert not packed.weight[row][empty].any()
    expected = [(one.tokens.tolist(), [*one.weight[1:].tolist(), 0.0]) for one in samples]
    assert sorted(found) == sorted(expected)
    assert packed.padding_fraction == pytest.approx(1 - sum(lengths) / packed.tokens.numel(), abs=1e-6)


def test_weights_are_of_the_next_token() -> None:
    """Of [image] <infill> 2 <eos>: the last code, 2 and <eos> are predicted; the holes' signs are not."""
    document = np.array([S.eos, 1, 2, S.break_token, 30, 31, 32, 33, S.break_token])
    one = join_sample([], mask_spans(document, [(2, 3)], S), S, 12)
    packed = pack_samples([one, one], S, 30)
    assert packed.tokens.tolist() == [
        [S.eos, 1, S.mask, S.break_token, 30, 31, 32, 33, S.break_token, S.infill, 2, S.eos] * 2
    ]
    assert packed.weight[0, :12].tolist() == [1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0]
    assert packed.sample[0].tolist() == [0] * 12 + [1] * 12


def test_retrieved_documents_are_dropped_to_fit_the_context() -> None:
    a, b, query = (mask_spans(np.array([S.eos, *[i] * n, S.break_token]), [], S) for i, n in ((1, 2), (2, 3), (3, 4)))
    one = join_sample([a, b], query, S, 16)
    assert one.tokens.tolist() == [
        S.eos,
        1,
        1,
        S.break_token,
        S.eos,
        2,
        2,
        2,
        S.break_token,
        S.eos,
        3,
        3,
        3,
        3,
        S.break_token,
        S.eos,
    ]
    assert one.weight.tolist() == [1.0] * 16
    assert join_sample([a, b], query, S, 15).tokens.tolist() == one.tokens[4:].tolist()
    assert join_sample([a, b], query, S, 7).tokens.tolist() == one.tokens[9:].tolist()


def test_samples_that_are_too_long_are_refused() -> None:
    document = mask_spans(np.array([S.eos, *[3] * 4, S.break_token]), [], S)
    for pack in (lambda: join_sample([document], document, S, 6), lambda: pack_samples([sample(7, 0)], S, 6)):
        with refuses(InputError) as caught:
            pack()
        assert re.findall(r"\d+", str(caught.value)) == ["7", "6"]


def test_no_samples_make_no_rows() -> None:
    assert pack_samples([], S, 8).tokens.shape[0] == 0


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(30, 60))
def test_properties_of_packings(lengths: list[int], context: int) -> None:
    rows = best_fit(lengths, context)
    assert sorted(which for row in rows for which in row) == list(range(len(lengths)))
    loads = sorted(sum(lengths[which] for which in row) for row in rows)
    assert loads[-1] <= context
    assert len(loads) == 1 or loads[0] + loads[1] > context  # no row that another has room for
    level, most = emptiest_first(lengths, len(rows))
    assert sorted(which for row in level for which in row) == list(range(len(lengths)))
    assert max(sum(lengths[which] for which in row) for row in level) == most
    narrow, least = narrowest_best_fit(lengths, len(rows), context)
    assert sorted(which for row in narrow for which in row) == list(range(len(lengths)))
    assert len(narrow) <= len(rows)
    assert max(sum(lengths[which] for which in row) for row in narrow) <= least <= context
    laid, width = choose_rows(lengths, context)
    assert sorted(which for row in laid for which in row) == list(range(len(lengths)))
    assert max(sum(lengths[which] for which in row) for row in laid) <= width <= context
    assert len(laid) * width <= len(rows) * context


def test_best_fit_takes_the_fullest_row_with_room() -> None:
    assert best_fit([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]
    assert best_fit([7, 6, 3, 3], 10) == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("context", "documents", "spread", "most"),
    [(512, (0, 1, 2), 5, 0.04), (512, (0, 1, 2), 12, 0.045), (512, (2,), 5, 0.035), (256, (0,), 12, 0.025)],
)
def test_padding_fraction_is_small(context: int, documents: tuple[int, ...], spread: int, most: float) -> None:
    """Batches of 32 with documents of about 85 tokens, as many in front; means over 40 batches."""
    random = np.random.default_rng(0)
    used = filled = 0
    for _ in range(40):
        lengths = [
            int((85 + random.integers(-spread, spread + 1, 1 + random.choice(documents))).sum()) for _ in range(32)
        ]
        rows, width = choose_rows(lengths, context)
        used, filled = used + sum(lengths), filled + len(rows) * width
    assert 1 - used / filled < most


def test_too_few_rows_are_refused() -> None:
    with refuses(UsageError, found="1"):
        narrowest_best_fit([7, 6], 1, 10)
