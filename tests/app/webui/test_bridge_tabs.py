"""The tabs of a bridge: data are pushed through, with its walls, and it can be stopped."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from feller.app.reporter import SILENT
from feller.app.webui.page import tabs_of
from feller.app.webui.run_request import RequestReporter
from feller.app.webui.tabs.bridge_tab import AHEAD, BACK, draw_paths, scene_background
from feller.app.workflows.bridges.bridge_run import read_bridge_record
from feller.core.user_code import fingerprint
from feller.data.images.modality import Images
from tests.app.webui.asking import ask, tab_of


@pytest.mark.slow
def test_data_are_pushed_through_a_bridge(on_page, bridged, tmp_path):
    page = on_page(bridged)
    assert [tab.name for tab in tabs_of(*page)] == ["Transport", "Reports", "Training"]
    assert page[0].summary == "a bridge from a.csv to b.csv"
    tab = tab_of(page, "Transport")
    ours = np.load(ask(tab).files[1])
    assert ours["paths"].shape[0] == 30
    own = tmp_path / "own.csv"
    own.write_text("x,y\n-2,0\n-1,0\n")
    found = ask(tab, **{"from": str(own)})
    with Image.open(found.pictures[0].path) as film:
        assert film.n_frames > 4
    assert np.load(found.files[1])["paths"][:, 0].tolist() == pytest.approx(np.array([[-2, 0], [-1, 0]]), abs=1e-5)
    back = np.load(ask(tab, backward=BACK).files[1])["paths"]
    assert back[:, -1, 0].mean() > 1  # begins at the last population
    assert ".exe" not in tab.controls["from"].file_types  # Gradio refuses others


@pytest.mark.slow
def test_walls_that_a_bridge_goes_around_are_drawn(on_page, bridged, tmp_path):
    def frame(found):
        with Image.open(found.pictures[0].path) as film:
            return np.asarray(film.convert("RGB")).astype(int)

    room = tmp_path / "room.png"
    grey = np.full((20, 40), 255, dtype=np.uint8)
    grey[5:15, 18:22] = 0
    Image.fromarray(grey).save(room)
    shutil.copytree(bridged, tmp_path / "walled")
    record = json.loads((bridged / "recipe.json").read_text())
    asked = {"costs": [str(room), "x.py:hill"], "code": [fingerprint(room)], "frame": [-4.0, 4.0, -2.0, 2.0]}
    record["bridged"] |= asked
    (tmp_path / "walled" / "recipe.json").write_text(json.dumps(record))
    open_one, walled = on_page(bridged), on_page(tmp_path / "walled")
    found = ask(tab_of(walled, "Transport"))
    wall = np.array([0x8B, 0x91, 0x99])
    drawn = [(abs(frame(one) - wall).max(-1) <= 8).mean() for one in (ask(tab_of(open_one, "Transport")), found)]
    assert drawn[0] < 0.005 < 0.015 < drawn[1]  # the paths hide a part of it
    assert "Dark: obstacles; hatched: outside" in found.message
    assert "State costs defined by code are not shown" in found.message

    ground = scene_background(read_bridge_record(walled[0].run), 2)
    places = np.array([[0.0, 0.0], [0.0, 1.5], [2.0, 0.0], [0.3, -0.9]])
    assert ground["walls"](places).tolist() == [True, False, False, True]
    assert ground["frame"] == (-4.0, 4.0, -2.0, 2.0)
    room.write_bytes(b"another")
    assert scene_background(read_bridge_record(walled[0].run), 2) == {}
    assert ask(tab_of(walled, "Transport")).pictures


def test_a_push_says_what_was_pushed_and_can_be_stopped_on_its_way(on_page, bridged):
    told: list[float | None] = []
    tab = tab_of(on_page(bridged), "Transport")
    sent = {"from": None, "backward": AHEAD, "seed": 0}
    found = tab.handler(sent, RequestReporter(lambda share, text: told.append(share)))
    assert "Input: a.csv, the first population, since no file was uploaded." in found.message
    assert len([share for share in told if share]) > 40  # at steps of the simulation, and at frames of the film


@pytest.mark.parametrize("channels", [1, 3])
def test_paths_of_pictures_are_drawn_as_pictures(channels):
    """Gray ones have no channel in their file; there is one row of pictures for each path."""
    levels = np.random.default_rng(0).integers(0, 17, (5, 4, 8, 8, channels)).astype(np.uint8)
    found = {"paths": levels if channels == 3 else levels[..., 0], "times": np.linspace(0, 1, 4)}
    drawn, ground = draw_paths(Images(8, 8, channels, levels=16), found, None, ("first", "last"), SILENT)
    shown = Image.open(io.BytesIO(drawn))
    assert (shown.format, ground) == ("PNG", "")
    assert min(shown.size) >= 32
