"""Pictures of backbones: one scale, no mirror image, chains of any length."""

import numpy as np
import pytest

from feller.data.proteins.figure import FINE, _course, _turned, traces


def helix(length: int, hand: int = 1) -> np.ndarray:
    turn = np.arange(length) * np.radians(100)
    return np.stack([2.3 * np.cos(turn), hand * 2.3 * np.sin(turn), 1.5 * np.arange(length)], 1)


def test_chain_is_widest_from_left_to_right_and_keeps_its_hand() -> None:
    for hand in (1, -1):
        chain = helix(30, hand) @ np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0] + 7
        turned = _turned(chain)
        spread = turned.std(0)
        assert spread[0] >= spread[1] >= spread[2]
        np.testing.assert_allclose(turned.mean(0), 0, atol=1e-12)
        volumes = [np.linalg.det(points[1:4] - points[0]) for points in (chain, turned)]
        assert np.isclose(*volumes)
        assert turned[0, 0] < turned[-1, 0]


def test_course_goes_through_the_atoms() -> None:
    chain = helix(12)
    np.testing.assert_allclose(_course(chain)[::FINE], chain, atol=1e-9)


@pytest.mark.parametrize("lengths", [(40,), (1, 2, 3), (5,) * 30])
def test_picture_has_a_panel_for_each_chain(lengths: tuple[int, ...]) -> None:
    picture = np.array(traces([helix(length) for length in lengths]))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture < 200).any()
    assert (picture[:2] == 255).all()


def test_pictures_beside_each_other_have_one_scale() -> None:
    """What is drawn of a helix is smaller beside one of four times its length."""
    short, long = helix(12), helix(48)
    alone, beside, other = (
        np.array(traces([chain], beside=[more])) for chain, more in ((short, short), (short, long), (long, short))
    )
    assert beside.shape == other.shape
    width = [np.ptp(np.flatnonzero((np.ptp(picture, axis=2) > 60).any(0))) for picture in (alone, beside, other)]
    assert 2 * width[1] < width[0]
    assert width[1] < width[2] / 2


def test_first_residue_is_blue_and_the_last_is_red() -> None:
    picture = np.array(traces([helix(60)])).astype(int)
    colour = np.ptp(picture, axis=2) > 60
    columns = np.flatnonzero(colour.any(0))
    left, right = (picture[:, c][colour[:, c]].mean(0) for c in (columns[3], columns[-4]))
    assert left[2] > left[0] + 30
    assert right[0] > right[2] + 30
