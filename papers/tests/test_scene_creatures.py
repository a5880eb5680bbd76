"""Creatures with made-up names, each with a look of its own."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.scenes.creatures import APART, DOTS, View, invent, names, render_creature, seen, views
from feller_papers.scenes.shapes import COLOURS

DRAWS = Rng(0)
MANY = invent(120, DRAWS)


def test_names_are_many_and_none_is_a_word_of_the_captions() -> None:
    assert len(set(names())) == len(names()) >= 5000
    assert not set(names()) & {*COLOURS, "ground", "on", "a", "an", "with", "thing"}
    assert all(name.isalpha() and 3 <= len(name) <= 9 for name in names())
    with pytest.raises(UsageError, match="Ask for fewer"):
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
    assert [one.name for one in invent(5, Rng(1))] != [one.name for one in MANY[:5]]


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
    with pytest.raises(UsageError, match="found 24"):
        render_creature(view, 24)


def test_views_have_grounds_of_their_own() -> None:
    found = views(MANY[0], 8, DRAWS)
    assert len({view.ground for view in found}) == 8
    assert {MANY[0].body, MANY[0].mark} & {view.ground for view in found} == set()
    assert views(MANY[0], 3, DRAWS) == found[:3]
    with pytest.raises(UsageError, match="8 grounds; found 9"):
        views(MANY[0], 9, DRAWS)
