"""Pictures of crystals: panels, atoms on faces, one colour an element."""

import numpy as np
import pytest

from feller.data.crystals.crystal import Crystal
from feller.data.crystals.picture import _seen, colour, picture, with_images

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


def test_elements_have_colours_of_their_own() -> None:
    colours = np.array([colour(number) for number in range(1, 119)])
    assert ((colours >= 0) & (colours <= 1)).all()
    assert len(np.unique(colours.round(3), axis=0)) == 118
