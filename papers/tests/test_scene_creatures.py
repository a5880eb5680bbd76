"""Tests of creatures."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.scenes.creatures import (
    CREATURE_SIZE,
    MIN_DIFFERENCE,
    View,
    dot_colours,
    invent,
    names,
    render_creature,
    views,
)
from feller_papers.scenes.shapes import COLOURS

DRAWS = Rng(0)
MANY = invent(120, DRAWS)


def test_names_are_distinct_from_caption_words() -> None:
    assert len(set(names())) == len(names()) >= 5000
    assert not set(names()) & {*COLOURS, "ground", "on", "a", "an", "with", "thing"}
    assert all(name.isalpha() and 3 <= len(name) <= 9 for name in names())
    with pytest.raises(UsageError, match="Ask for fewer"):
        invent(len(names()) + 1, DRAWS)


def test_looks_differ_clearly_and_are_symmetric() -> None:
    colours = np.stack([dot_colours(creature) for creature in MANY])
    for half in (colours[:, : CREATURE_SIZE * CREATURE_SIZE // 2], colours[:, CREATURE_SIZE * CREATURE_SIZE // 2 :]):
        differences = (half[:, None] != half[None]).sum(2) + CREATURE_SIZE**2 * np.eye(len(MANY), dtype=int)
        assert differences.min() >= MIN_DIFFERENCE
        assert half.any(1).all()
    assert len({creature.name for creature in MANY}) == len(MANY)
    for creature in MANY:
        assert creature.body != creature.mark
        assert all(row == row[::-1] for row in creature.pattern)
        assert Counter(dot for row in creature.pattern for dot in row)[0] < CREATURE_SIZE**2
    assert [creature.name for creature in invent(5, Rng(1))] != [creature.name for creature in MANY[:5]]


def test_first_creatures_do_not_depend_on_n() -> None:
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
            dot = pattern[row // 2 - 2][column // 2 - 2] if inside else 0
            assert tuple(small[row, column].tolist()) == COLOURS[("blue", "red", "white")[dot]]
            assert (upper[row, column] == (small[row, column] if row < 8 else COLOURS["blue"])).all()
    assert view.caption() == "an ulk on a blue ground"
    assert replace(view, creature=MANY[0], ground="orange").caption() == f"a {MANY[0].name} on an orange ground"
    with pytest.raises(UsageError, match="found 24"):
        render_creature(view, 24)


def test_views_have_different_grounds() -> None:
    creature_views = views(MANY[0], 8, DRAWS)
    assert len({view.ground for view in creature_views}) == 8
    assert {MANY[0].body, MANY[0].mark} & {view.ground for view in creature_views} == set()
    assert views(MANY[0], 3, DRAWS) == creature_views[:3]
    with pytest.raises(UsageError, match="8 grounds; found 9"):
        views(MANY[0], 9, DRAWS)
