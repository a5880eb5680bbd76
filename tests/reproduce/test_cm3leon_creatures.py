"""Creatures with made-up names: each has a look of its own, and is told from its picture."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.draws import Draws
from feller.errors import UsageError
from feller.reproduce.cm3leon.colours import COLOURS
from feller.reproduce.cm3leon.creatures import (
    APART,
    DOTS,
    PARTS,
    View,
    invent,
    names,
    render_creature,
    seen,
    some_halved,
    views,
)
from feller.reproduce.cm3leon.spotting import spot
from feller.reproduce.cm3leon.written import stacked

DRAWS = Draws(0)
MANY = invent(120, DRAWS)


def test_names_are_many_and_none_is_a_word_of_the_captions() -> None:
    assert len(set(names())) == len(names()) >= 5000
    assert not set(names()) & {*COLOURS, "ground", "on", "a", "an", "with", "thing"}
    assert all(name.isalpha() and 3 <= len(name) <= 9 for name in names())
    with pytest.raises(UsageError, match="ask for fewer"):
        invent(len(names()) + 1, DRAWS)


def test_looks_differ_clearly_and_are_symmetric() -> None:
    looks = np.stack([seen(one) for one in MANY])
    for half in (looks[:, : DOTS * DOTS // 2], looks[:, DOTS * DOTS // 2 :]):
        apart = (half[:, None] != half[None]).sum(2) + DOTS**2 * np.eye(len(MANY), dtype=int)
        assert apart.min() >= APART
        assert half.any(1).all()
    assert len({one.name for one in MANY}) == len(MANY)
    for one in MANY:
        assert one.body != one.mark
        assert all(row == row[::-1] for row in one.pattern)
        assert Counter(dot for row in one.pattern for dot in row)[0] < DOTS**2
    assert [one.name for one in invent(5, Draws(1))] != [one.name for one in MANY[:5]]


def test_the_first_are_the_same_for_every_number() -> None:
    assert invent(7, DRAWS) == MANY[:7]


def test_a_picture_by_hand() -> None:
    pattern = ((0, 1, 1, 0), (2, 1, 1, 2), (0, 2, 2, 0), (1, 0, 0, 1))
    view = View(replace(MANY[0], name="ulk", pattern=pattern, body="red", mark="white"), "blue")
    picture = render_creature(view, 32)
    small = picture[::2, ::2]
    assert (small.repeat(2, 0).repeat(2, 1) == picture).all()
    assert (small == render_creature(view, 16)).all()
    upper = render_creature(replace(view, part="upper"), 16)
    for row in range(16):
        for column in range(16):
            inside = 4 <= row < 12 and 4 <= column < 12
            kind = pattern[row // 2 - 2][column // 2 - 2] if inside else 0
            assert tuple(small[row, column].tolist()) == COLOURS[("blue", "red", "white")[kind]]
            assert (upper[row, column] == (small[row, column] if row < 8 else COLOURS["blue"])).all()
    assert view.caption() == "an ulk on a blue ground"
    assert replace(view, creature=MANY[0], ground="orange").caption() == f"a {MANY[0].name} on an orange ground"
    with pytest.raises(UsageError, match="got 24"):
        render_creature(view, 24)


def test_views_have_grounds_of_their_own() -> None:
    found = views(MANY[0], 8, DRAWS)
    assert len({view.ground for view in found}) == 8
    assert {MANY[0].body, MANY[0].mark} & {view.ground for view in found} == set()
    assert views(MANY[0], 3, DRAWS) == found[:3]
    halves = some_halved(found * 50, DRAWS)  # bounds: six standard deviations
    assert [view.ground for view in halves] == [view.ground for view in found * 50]
    shares = Counter(view.part for view in halves)
    assert all(
        shares[part] == pytest.approx(n, abs=60) for part, n in {"whole": 200, "upper": 100, "lower": 100}.items()
    )
    with pytest.raises(UsageError, match="8 grounds, got 9"):
        views(MANY[0], 9, DRAWS)


@pytest.mark.parametrize("side", [16, 32])
def test_all_views_are_told_exactly(side: int) -> None:
    shown = [View(one, ground, part) for one in MANY[:6] for ground in one.grounds for part in PARTS]
    assert spot(stacked([render_creature(view, side) for view in shown]), MANY) == shown


def test_noise_does_not_hide_a_creature_and_other_pictures_are_no_better_than_chance() -> None:
    """Noise of deviation 60 (seeded). Of 400 pictures of noise alone, 1 / 120 is right by chance: 12 has a chance of
    2e-4, so more is a fault."""
    shown = [views(one, 1, DRAWS.named(one.name))[0] for one in MANY]
    pictures = stacked([render_creature(view, 32) for view in shown])
    noise = Draws(1).at("noise")
    found = spot((pictures + 60 * noise.normal(pictures.shape)).clamp(0, 255).byte(), MANY)
    assert [view.creature for view in found] == [view.creature for view in shown]
    empty = (128 + 60 * noise.normal((400, 3, 32, 32))).clamp(0, 255).byte()
    wanted = noise.integers(120, (400,)).tolist()
    right = sum(view.creature == MANY[i] for view, i in zip(spot(empty, MANY), wanted, strict=True))
    assert right < 12


def test_nothing_to_tell() -> None:
    with pytest.raises(UsageError, match="got 0 and 32"):
        spot(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), [])
    assert spot(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), MANY) == []
