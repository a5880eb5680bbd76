"""Patch positions of codes around holes of known size."""

import numpy as np
import pytest
import torch

from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks import GPT
from feller.networks.sequence.patch_positions import CollapsedHoles, HolePositions, PatchPositions, PlannedHoles
from feller.sampling.autoregressive.masked_spans import Document, SpanMasking, mask_spans, sample_spans
from tests.networks.checks import check_record, perturb_weights

SYMBOLS = DocumentVocabulary(text=5, codes=4, picture=9)


def positions_of(holes: HolePositions) -> PatchPositions:
    return PatchPositions(SYMBOLS, 4, 0.02, holes)


def documents(n: int) -> list[np.ndarray]:
    """Return documents of two images with texts around them; codes are numbered by their index within the image."""
    stream, rows = Rng(0).stream("documents"), []
    lengths = stream.randint(4, (n, 2)).tolist()
    for before, between in lengths:
        images = stream.randint(SYMBOLS.codes, (2, SYMBOLS.picture)).add(SYMBOLS.text).tolist()
        cut, text = SYMBOLS.break_token, [1, 2, 3]
        parts = [text[:before], images[0], text[:between], images[1]]
        rows.append(np.array([SYMBOLS.eos, *[token for part in parts for token in [*part, *[cut] * bool(part)]]]))
    return rows


def masked(row: np.ndarray, u: list[float]) -> tuple[np.ndarray, list[int]]:
    """Return a document with random holes and its fills, and the true index of each of its codes."""
    spans = sample_spans(SpanMasking(mean=3.0, text_prob=0.0), Document(row, ()), SYMBOLS, u)
    index, count = [], 0
    for token in row.tolist():
        count = count + 1 if SYMBOLS.text <= token < SYMBOLS.eos else 0
        index.append(count)
    kept = [i for i in range(len(row)) if not any(a <= i < b for a, b in spans)]
    hidden = [i for a, b in spans for i in range(a, b)]
    return mask_spans(row, spans, SYMBOLS).tokens, [index[i] for i in [*kept, *hidden] if index[i]]


def test_codes_around_planned_holes_have_their_true_index() -> None:
    """Of 200 random documents in rows of two; without the plan, codes after holes have a smaller index."""
    rows = documents(200)
    uniforms = Rng(1).stream("u").uniform((200, SpanMasking().numbers), torch.float64).tolist()
    pairs = [masked(row, u) for row, u in zip(rows, uniforms, strict=True)]
    differing = 0
    for (first, index), (second, other) in zip(pairs[::2], pairs[1::2], strict=True):
        tokens = torch.from_numpy(np.concatenate([first, second, [SYMBOLS.eos]]))[None]
        is_code = SYMBOLS.is_code(tokens)
        planned, collapsed = (positions_of(holes).positions(tokens) for holes in (PlannedHoles(), CollapsedHoles()))
        assert planned[is_code].tolist() == index + other
        assert not planned[~is_code & (tokens < SYMBOLS.mask)].any()
        assert (collapsed <= planned).all()
        differing += int((collapsed < planned).any())
    assert differing > 50


def test_given_sizes_equal_those_of_the_fills_and_samples_do_not_mix() -> None:
    code, cut, mask, infill = 5, SYMBOLS.break_token, SYMBOLS.mask, SYMBOLS.infill
    prompt = [SYMBOLS.eos, code, mask, code, mask, code, cut, mask, cut]
    fills = [infill, code, code, code, infill, code, code, code, infill, 1]
    whole = torch.tensor([prompt + fills])
    sizes = torch.zeros_like(whole)
    sizes[0, [2, 4]] = 3
    found = positions_of(PlannedHoles()).positions(whole)
    assert found.tolist() == [[0, 1, 1, 5, 5, 9, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]]
    n = len(prompt)
    assert torch.equal(positions_of(PlannedHoles()).positions(whole[:, :n], hole_sizes=sizes[:, :n]), found[:, :n])
    twice, sample = whole.repeat(1, 2), torch.tensor([[0] * whole.shape[1] + [1] * whole.shape[1]])
    assert torch.equal(positions_of(PlannedHoles()).positions(twice, sample), found.repeat(1, 2))


def test_a_hole_of_unknown_size_counts_as_empty() -> None:
    """As in models of the first release."""
    prompt = torch.tensor([[SYMBOLS.eos, 5, SYMBOLS.mask, 5, SYMBOLS.break_token]])
    none = torch.zeros_like(prompt)
    planned, collapsed = (
        positions_of(holes).positions(prompt, hole_sizes=none) for holes in (PlannedHoles(), CollapsedHoles())
    )
    assert torch.equal(planned, collapsed)


@pytest.mark.parametrize("parts", [(9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), (9, 10), (4, 5, 3, 7)])
def test_cached_steps_with_a_plan_equal_the_full_pass(parts: tuple[int, ...]) -> None:
    config = GPT(SYMBOLS, width=16, depth=2, heads=2, context=32, hole_positions=PlannedHoles())
    check_record(config)
    network = perturb_weights(config.build((32,), {}, Rng(0)), 0.3).double()
    code, cut, mask, infill = 5, SYMBOLS.break_token, SYMBOLS.mask, SYMBOLS.infill
    row = [SYMBOLS.eos, code, mask, code, mask, code, cut, mask, cut]
    row += [infill, 6, 7, 8, infill, 6, 7, 8, infill, 1]
    x = torch.stack([torch.tensor([SYMBOLS.pad] * 2 + row[:17]), torch.tensor(row)])
    sizes = torch.zeros(2, 9 + 2, dtype=torch.long)
    sizes[0, [4, 6]], sizes[1, [2, 4]] = 3, 3
    cache, read = network.init_cache(2, 19, torch.tensor([2, 0]), sizes), 0
    full = network(torch.tensor([row]), torch.zeros(1), {})
    for m in parts:
        logits, cache = network.decode_step(x[:, read : read + m], cache)
        read += m
        torch.testing.assert_close(logits[1], full[0, read - 1], rtol=1e-10, atol=1e-10)
        if read > 2:
            torch.testing.assert_close(logits[0], full[0, read - 3], rtol=1e-10, atol=1e-10)
