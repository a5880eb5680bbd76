"""Pictures of molecules: colours, no mirror image, samples of any form."""

import numpy as np
import pytest

from feller.data.atoms.elements import colour_of, hill_formula
from feller.data.molecules.figure import TITLE, _turned, balls
from feller.data.molecules.molecule import Molecule


def rgb(number: int) -> np.ndarray:
    return np.array([int(colour_of(number)[i : i + 2], 16) for i in (1, 3, 5)])


def centre_of(picture: np.ndarray) -> int:
    """Return the row in the middle below the title."""
    return (picture.shape[0] + round(100 * TITLE)) // 2


def test_molecule_is_widest_from_left_to_right_and_keeps_its_hand() -> None:
    for hand in (1, -1):
        places = np.random.default_rng(0).standard_normal((20, 3)) * (1, 4, 2) * (1, 1, hand) + 7
        turned = _turned(places)
        spread = turned.std(0)
        assert spread[0] > spread[1] > spread[2]
        np.testing.assert_allclose((turned.max(0) + turned.min(0)) / 2, 0, atol=1e-12)
        volumes = [np.linalg.det(points[1:4] - points[0]) for points in (places, turned)]
        assert np.isclose(*volumes)


def test_balls_have_their_colours_and_sticks_join_what_is_bonded() -> None:
    """Carbon left, oxygen right, as far apart as bonds are or far beyond; the middle is drawn or white."""
    for apart, joined in ((1.2, True), (4.0, False)):
        picture = np.array(balls([Molecule("", np.array([6, 8]), np.array([[0.0, 0, 0], [apart, 0, 0]]))])).astype(int)
        for number in (6, 8):
            assert (np.abs(picture - rgb(number)).sum(2) < 6).sum() > 100
        middle = picture[centre_of(picture), picture.shape[1] // 2 - 3]
        assert ((middle < 250).all()) == joined


def test_nearer_balls_hide_what_lies_behind() -> None:
    """Three oxygens in a wide row and, seen in the middle, sulphur before or behind the one there."""
    for depth, front in ((0.9, 16), (-0.9, 8)):
        places = np.array([[-6.0, 0, 0], [6, 0, 0], [0, 3, 0], [0, -3, 0], [0, 0, 0], [0, 0, depth]])
        molecule = Molecule("", np.array([8, 8, 8, 8, 8, 16]), places)
        turned = _turned(places)
        flipped = np.sign(turned[5, 2] - turned[4, 2]) != np.sign(depth)  # which side is seen is free
        picture = np.array(balls([molecule])).astype(int)
        centre = picture[centre_of(picture), picture.shape[1] // 2]
        expected = {8: 16, 16: 8}[front] if flipped else front
        assert np.abs(centre - rgb(expected)).sum() < 6


@pytest.mark.parametrize("sizes", [(9,), (1, 2, 3), (5,) * 30])
def test_picture_has_a_panel_for_each_molecule(sizes: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    picture = np.array(
        balls([Molecule("", generator.integers(1, 119, size), generator.standard_normal((size, 3))) for size in sizes])
    )
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture < 200).any()
    assert (picture[:2] == 255).all()


def test_titles_are_formulas_in_the_usual_order() -> None:
    assert hill_formula(np.array([8, 1, 1])) == "H2O"
    assert hill_formula(np.array([1, 8, 6, 7, 6, 1])) == "C2H2NO"
    assert hill_formula(np.array([17, 11])) == "ClNa"
    title = np.array(balls([Molecule("", np.array([6]), np.zeros((1, 3)))]))[: round(100 * TITLE)]
    assert (title < 200).any()


def test_pictures_beside_each_other_have_one_scale() -> None:
    small, large = (Molecule("", np.full(6, 6), size * np.eye(6)[:, :3]) for size in (1.0, 5.0))
    alone, beside, other = (np.array(balls([small], beside=more)) for more in ((), [large], [small]))
    ink = [(picture < 250).any(2).sum() for picture in (alone, beside, other)]
    assert ink[0] == ink[2] > 3 * ink[1]
    assert beside.shape == np.array(balls([large], beside=[small])).shape


@pytest.mark.slow
def test_samples_that_collapsed_are_drawn() -> None:
    assert balls([Molecule("", np.full(29, 6), np.zeros((29, 3)))] * 25).width > 100
