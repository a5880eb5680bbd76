"""Pictures of crystals: panels, atoms on faces, one colour an element."""

import numpy as np
import pytest

from feller.data.atoms.elements import colour_of, ink_on
from feller.data.crystals.cif import Crystal
from feller.data.crystals.figure import _seen, picture, reduced, with_images

CUBE = np.array([4.0, 4, 4, 90, 90, 90])


def crystal(*places: tuple[float, float, float], number: int = 8, cell: np.ndarray = CUBE) -> Crystal:
    return Crystal(np.full(len(places), number), np.array(places), cell)


@pytest.mark.parametrize("count", [1, 3, 30])
def test_picture_has_a_panel_for_each_crystal(count: int) -> None:
    drawn = np.array(picture([crystal((0.5, 0.5, 0.5))] * count))
    across = int(np.ceil(np.sqrt(min(count, 25))))
    down = -(-min(count, 25) // across)
    assert drawn.shape == (240 * down, 240 * across, 3)
    panels = [drawn[240 * j : 240 * (j + 1), 240 * i : 240 * (i + 1)] for j in range(down) for i in range(across)]
    assert sum((panel < 200).any() for panel in panels) == min(count, 25)


def test_atoms_on_faces_are_seen_on_both() -> None:
    for place, images in (((0, 0, 0), 8), ((0.5, 0.5, 0), 2), ((0.5, 0, 0.999), 4), ((0.5, 0.5, 0.5), 1)):
        numbers, places = with_images(crystal(place))
        assert len(numbers) == len(np.unique(places, axis=0)) == images
        assert (abs(places - 0.5) < 0.53).all()


def test_cell_is_turned_and_keeps_its_form_and_hand() -> None:
    cell = np.array([3.0, 4, 5, 80, 95, 110])
    edges = _seen(cell)
    np.testing.assert_allclose(np.linalg.norm(edges, axis=1), cell[:3])
    cosines = [edges[1] @ edges[2] / 20, edges[0] @ edges[2] / 15, edges[0] @ edges[1] / 12]
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), cell[3:])
    assert np.linalg.det(edges) > 0
    assert _seen(CUBE)[2, 1] > 3  # c is up
    assert _seen(CUBE)[0, 2] > 3  # a comes to the front


def rgb(number: int) -> np.ndarray:
    return np.array([int(colour_of(number)[i : i + 2], 16) for i in (1, 3, 5)])


def area(drawn: np.ndarray, number: int) -> int:
    return int((np.abs(drawn.astype(int) - rgb(number)).sum(2) < 6).sum())


def test_elements_have_the_usual_colours() -> None:
    """White hydrogen, grey carbon, blue nitrogen, red oxygen; all but the last nine are told apart."""
    for number, channel in ((7, 2), (8, 0), (17, 1)):
        assert rgb(number).argmax() == channel
    assert rgb(1).min() == 255
    assert np.ptp(rgb(6)) == 0
    assert len({colour_of(number) for number in range(1, 110)}) == 109
    assert {colour_of(number) for number in range(110, 119)} == {"#fa1493"}
    assert ink_on(colour_of(1)) == "#000000"
    assert ink_on(colour_of(7)) == "#ffffff"


def test_atoms_that_coincide_are_both_seen() -> None:
    """An oxygen alone has a whole disc; with titanium at its place, a ring is left of one of the two."""
    alone = np.array(picture([crystal((0.5, 0.5, 0.5))]))
    both = np.array(picture([Crystal(np.array([8, 22]), np.full((2, 3), 0.5), CUBE)]))
    assert area(alone, 8) > 200
    assert area(alone, 22) == 0
    assert min(area(both, 8), area(both, 22)) > 60


def test_large_cells_have_a_legend() -> None:
    """Of elements whose discs are too small for a symbol, below the cell."""
    draw = np.random.default_rng(0)
    low = slice(222, 240)
    for count, said in ((4, False), (60, True)):
        many = Crystal(np.resize([8, 22, 20], count), 0.1 + 0.8 * draw.random((count, 3)), CUBE)
        drawn = np.array(picture([many]))
        assert (area(drawn[low], 8) > 5) == said


def test_titles_are_the_smallest_formulas() -> None:
    assert reduced(np.array([20, 20, 8, 8, 22, 22, 8, 8, 8, 8])) == "CaO3Ti"
    assert reduced(np.array([26, 26])) == "Fe"
    assert reduced(np.array([20, 22, 8, 8, 8])) == "CaTiO3"
