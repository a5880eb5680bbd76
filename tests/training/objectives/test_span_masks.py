"""Span masks: probabilities, whole units, padding, crops."""

import itertools

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.training.objectives.duration_infilling import DURATION_MASK
from feller.training.objectives.frame_infilling import crop
from feller.training.objectives.span_masks import SpanMask, label_changes, unit_ids
from tests.errors import refuses
from tests.oracle import F64


def alone(b: int, n: int) -> tuple[Tensor, Tensor]:
    """Return units of one entry each, none of them padding."""
    return torch.arange(n).expand(b, n), torch.ones(b, n, dtype=torch.bool)


def expected_counts(law: SpanMask, n: int, steps: int = 20_000) -> Tensor:
    """Return the exact masking probability of each entry, summed over rates, rounded sizes and positions."""
    chance = torch.zeros(n, dtype=F64)
    for k in range(steps):
        size = (law.min_fraction + (law.max_fraction - law.min_fraction) * (k + 0.5) / steps) * n
        for whole, weight in ((int(size), 1 - size % 1), (int(size) + 1, size % 1)):
            whole, starts = min(max(whole, 1), n), n - min(max(whole, 1), n) + 1
            for first in range(starts):
                chance[first : first + whole] += weight / starts / steps
    return law.full_mask_prob + (1 - law.full_mask_prob) * chance


def test_expected_fractions_of_the_paper() -> None:
    """0.3 + 0.7 x 0.85 of sound, 0.2 + 0.8 x 0.55 of durations."""
    assert SpanMask().expected_fraction == pytest.approx(0.895, abs=1e-12)
    assert DURATION_MASK.expected_fraction == pytest.approx(0.64, abs=1e-12)


@pytest.mark.parametrize("law", [SpanMask(), DURATION_MASK, SpanMask(0.0, 0.3, 0.3)])
def test_masked_fraction_has_its_expectation(law: SpanMask) -> None:
    """100,000 rows of 37: the mean within 5 standard errors, false alarm 6e-7 for each law."""
    unit, valid = alone(100_000, 37)
    share = law(unit, valid, Rng(0).stream("mask")).double().mean(1)
    assert abs(share.mean() - law.expected_fraction) < 5 * share.std() / 100_000**0.5


def test_masking_probability_of_each_entry() -> None:
    """7 entries of 200,000 rows against an exact sum; 5 standard errors each, false alarm 4e-6."""
    law = SpanMask(0.1, 0.3, 0.8)
    unit, valid = alone(200_000, 7)
    found, exact = law(unit, valid, Rng(1).stream("mask")).double().mean(0), expected_counts(law, 7, 2000)
    assert exact[0] < exact[3] - 0.1
    assert ((found - exact).abs() < 5 * (exact * (1 - exact) / 200_000).sqrt()).all()


def test_full_mask_prob() -> None:
    """40,000 rows of 50: a segment of at most 0.6 never hides all; 5 standard errors, false alarm 6e-7."""
    unit, valid = alone(40_000, 50)
    whole = SpanMask(0.3, 0.2, 0.6)(unit, valid, Rng(2).stream("mask")).all(1).double().mean()
    assert abs(whole - 0.3) < 5 * (0.3 * 0.7 / 40_000) ** 0.5


def test_spans_are_contiguous_whole_units() -> None:
    b, n = 2000, 23
    start = Rng(3).stream("start").uniform((b, n)) < 0.3
    unit = unit_ids(start)
    valid = torch.arange(n) < 4 + Rng(3).stream("length").randint(n - 4, (b, 1))
    law = SpanMask(0.0, 0.4, 0.4)
    hidden = law(unit, valid, Rng(4).stream("mask"))
    assert not (hidden & ~valid).any()
    sizes = set()
    for row in range(b):
        mine, real = hidden[row], valid[row]
        places = mine.nonzero()[:, 0].tolist()
        assert places == list(range(places[0], places[-1] + 1))
        for number in unit[row].unique():
            inside = mine[real & (unit[row] == number)]
            assert inside.numel() == 0 or inside.all() or not inside.any()
        many = int(real.sum())
        least = int(0.4 * many)
        ends = [int((unit[row][places] == unit[row][places[end]]).sum()) for end in (0, -1)]
        assert len(places) >= max(least, 1)
        one = len(unit[row][places].unique()) == 1
        assert one or len(places) - ends[0] - ends[1] + 2 <= least + 1
        sizes.add(len(places) - least)
    assert len(sizes) > 3


def test_units_increase_the_masked_fraction() -> None:
    unit, valid = alone(20_000, 40)
    law = SpanMask(0.0, 0.3, 0.7)
    draw = Rng(5)
    single = law(unit, valid, draw.stream("mask"))
    whole = law(unit // 8, valid, draw.stream("mask"))
    assert (whole | ~single).all()
    assert whole.double().mean() > single.double().mean() + 0.1


def test_padding_is_never_masked() -> None:
    unit, valid = alone(300, 12)
    wide = torch.cat([unit, 12 + unit], 1), torch.cat([valid, torch.zeros_like(valid)], 1)
    hidden = SpanMask()(*wide, Rng(6).stream("mask"))
    assert torch.equal(hidden[:, :12], SpanMask()(unit, valid, Rng(6).stream("mask")))
    assert not hidden[:, 12:].any()
    assert not SpanMask()(unit, torch.zeros_like(valid), Rng(6).stream("mask")).any()


@pytest.mark.parametrize("n", [1, 2])
def test_at_least_one_unit_is_masked(n: int) -> None:
    unit, valid = alone(500, n)
    hidden = SpanMask(0.0, 0.0, 0.1)(unit, valid, Rng(7).stream("mask"))
    assert (hidden.sum(1) == 1).all()


def test_unit_ids() -> None:
    label = torch.tensor([[3, 3, 1, 1, 1, 3]])
    assert label_changes(label).tolist() == [[True, False, True, False, False, True]]
    assert unit_ids(label_changes(label)).tolist() == [[1, 1, 2, 2, 2, 3]]
    assert unit_ids(torch.tensor([[False, False, True, False]])).tolist() == [[0, 0, 1, 1]]


def test_crops_are_uniform_and_consistent() -> None:
    """Windows of 4 of 7 real entries: 4 places, each 1/4 of 8,000; 5 standard errors, false alarm 2e-6."""
    b = 8000
    x = torch.arange(10).expand(2 * b, 10)
    valid = x < torch.tensor([7, 4]).repeat(b)[:, None]
    rows, real = crop({"x": x, "deep": x[:, :, None] * torch.ones(2)}, valid, 4, Rng(0).stream("crop"))
    first = rows["x"][:, 0]
    assert torch.equal(rows["x"], first[:, None] + torch.arange(4))
    assert torch.equal(rows["deep"][:, :, 1].long(), rows["x"])
    assert real.all()
    assert (first[1::2] == 0).all()
    counts = torch.bincount(first[::2], minlength=4)
    assert counts.shape == (4,)
    assert ((counts - b / 4).abs() < 5 * (b * 3 / 16) ** 0.5).all()


def test_padding_columns_are_cut_off() -> None:
    valid = torch.arange(10) < torch.tensor([[7], [4]])
    rows, real = crop(torch.arange(20).view(2, 10), valid, 8, Rng(0).stream("crop"))
    assert rows.tolist() == [list(range(7)), list(range(10, 17))]
    assert torch.equal(real, valid[:, :7])
    same, _ = crop(rows, torch.ones(2, 7, dtype=torch.bool), 7, Rng(0).stream("crop"))
    assert same is rows


def test_settings_out_of_range_are_refused() -> None:
    wrong = [(-0.1, 0.7, 1.0), (1.1, 0.7, 1.0), (0.3, 0.8, 0.7), (0.3, -0.1, 1.0), (0.3, 0.7, 1.1)]
    for numbers in wrong:
        with refuses(UsageError):
            SpanMask(*numbers)
    assert list(itertools.islice(SpanMask().__dataclass_fields__, 3)) == [
        "full_mask_prob",
        "min_fraction",
        "max_fraction",
    ]
