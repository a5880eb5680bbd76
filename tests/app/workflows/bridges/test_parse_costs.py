"""Words for costs: what they are taken for, and what is said of rooms without a way through."""

import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from feller.app.workflows.bridges.cost_specs import changed_pictures, common_frame, files_of, surface_of, walls_of
from feller.app.workflows.bridges.parse_costs import WARNING, parse_costs
from feller.app.workflows.bridges.populations import read_populations
from feller.core.errors import UsageError
from tests.errors import refuses

pytestmark = pytest.mark.usefixtures("here")

LEFT, RIGHT = [[2.5, 2.5], [2.5, 7.5], [3.5, 5.5], [1.5, 5.5]], [[16.5, 2.5], [17.5, 7.5], [18.5, 5.5], [16.5, 6.5]]


def populations(*places):
    names = [f"{k}.csv" for k in range(len(places))]
    for name, rows in zip(names, places, strict=True):
        np.savetxt(name, np.array(rows), delimiter=",", header="x,y", comments="")
    return read_populations(names)


def drawn(name, *, doors=slice(0)):
    """Draw a room of 20 by 10 with a wall in the middle, and a door in these rows of it."""
    room = np.full((10, 20), 255, dtype=np.uint8)
    room[:, 9:11] = 0
    room[doors, 9:11] = 255
    Image.fromarray(room).save(name)
    return room


def warnings(crowd, *texts, frame=()):
    return [note for note in parse_costs(texts, crowd, frame)[1] if note.startswith(WARNING)]


def test_room_without_a_door():
    drawn("closed.png")
    drawn("open.png", doors=slice(3, 4))
    crowd = populations(LEFT, RIGHT)
    (said,) = warnings(crowd, "closed.png")
    assert "from 0.csv to 1.csv" in said
    assert "100\u202f%" in said
    assert not warnings(crowd, "open.png")
    assert warnings(crowd, "open.png", "2 * closed.png")


def test_share_without_a_way():
    """Three of four on the left become one of four there: two of four have to go through the wall, at least."""
    drawn("closed.png")
    first, last = [*LEFT[:3], RIGHT[0]], [LEFT[3], *RIGHT[1:]]
    (said,) = warnings(populations(first, last), "closed.png")
    assert "50.0\u202f%" in said
    assert not warnings(populations([*LEFT[:2], *RIGHT[:2]], [*LEFT[2:], *RIGHT[2:]]), "closed.png")


def test_every_leg():
    drawn("closed.png")
    (said,) = warnings(populations(LEFT[:2], LEFT[2:], RIGHT), "closed.png")
    assert "from 1.csv to 2.csv" in said


def test_touching_corners_and_frames():
    room = drawn("corner.png")
    room[:5, 9] = room[5:, 10] = 255  # free pixels of both sides meet at a corner
    Image.fromarray(room).save("corner.png")
    assert warnings(populations(LEFT, RIGHT), "corner.png")
    drawn("closed.png")
    moved = [[[100 + 2 * x, 2 * y] for x, y in side] for side in (LEFT, RIGHT)]
    assert "100\u202f%" in warnings(populations(*moved), "closed.png", frame=(100.0, 140.0, 0.0, 20.0))[0]


def test_walls_and_surfaces_of_texts():
    drawn("closed.png")
    Image.new("L", (12, 30), 0).save("tall.png")
    texts = ("2 * closed.png", "congestion")
    assert common_frame(texts) == (0.0, 20.0, 0.0, 10.0)
    assert common_frame((*texts, "tall.png")) == (0.0, 12.0, 0.0, 10.0)
    assert common_frame(texts, (1.0, 2.0, 3.0, 4.0)) == (1.0, 2.0, 3.0, 4.0)
    assert common_frame(("congestion", "mine.py:hill")) is None
    (wall,) = walls_of(texts)
    places = np.array([[10.0, 5.0], [8.9, 5.0], [-0.1, 5.0]])
    assert wall.contains(torch.from_numpy(places)).tolist() == [True, False, True]
    cloud = np.random.default_rng(0).normal(size=(30, 3))
    np.savetxt("cloud.csv", cloud, delimiter=",", header="x,y,z", comments="")
    found = surface_of(("congestion", "3 * valleys=cloud.csv"))
    np.testing.assert_allclose(found.numpy(), cloud, rtol=1e-6, atol=1e-6)
    assert surface_of(texts) is None


def test_changed_pictures():
    drawn("closed.png")
    texts = ("closed.png", "congestion")
    code = files_of(texts)
    assert changed_pictures(texts, code) == ()
    drawn("closed.png", doors=slice(3, 4))
    assert changed_pictures(texts, code) == ("closed.png",)
    pathlib.Path("closed.png").unlink()
    assert changed_pictures(texts, code) == ("closed.png",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cloud.csv", "surface=cloud.csv"),
        ("example:jacksboro", "valleys=example:jacksboro"),
        ("closed.png 50 * congestion", "--cost closed.png '50 * congestion'"),
        ("2 * closed.png + congestion", "--cost '2 * closed.png' congestion"),
        ("mine.py:hill congestion", "--cost mine.py:hill congestion"),
        ("mine.py", "mine.py:FUNCTION"),
    ],
)
def test_nearly_right_texts(text, said):
    drawn("closed.png")
    pathlib.Path("cloud.csv").write_text("x,y,z\n1,2,3\n")
    with refuses(UsageError, argument="cost") as caught:
        parse_costs([text], populations(LEFT, RIGHT))
    assert said in caught.value.remedy


def test_names_with_a_space():
    drawn("my room.png", doors=slice(3, 4))
    drawn("congestion room.png", doors=slice(3, 4))
    for text in ("my room.png", "3 * my room.png", "congestion room.png"):
        assert parse_costs([text], populations(LEFT, RIGHT))[0].obstacles


def test_negative_cost():
    crowd = populations(LEFT, RIGHT)
    (note,) = parse_costs(["-3 * congestion"], crowd)[1]
    assert "negative factor" in note
    assert parse_costs(["3 * congestion"], crowd)[1] == ()
