"""The tab that steers: wishes are those named at the start, and no others."""

import numpy as np
import pytest
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.data.points import euclidean_points
from tests.app.webui.asking import ask, options, tab_of


def right(folder):
    """Write a reward of points."""
    (folder / "r.py").write_text("def right(values, given):\n    return values[:, 0]\n")
    return folder / "r.py"


def test_steering_follows_wishes_that_are_named_at_the_start(on_page, tmp_path):
    own = tmp_path / "r.py"
    own.write_text("def left(values, given):\n    return values[..., :4].mean((1, 2, 3)) / 16\n")
    tab = tab_of(on_page("digits", rewards=(f"{own}:left",)), "Steer")
    rewards = ("r.py:left", "target ink, set below", "ink", "compressibility", "less ink", "less compressibility")
    assert options(tab, "reward") == rewards
    found = ask(tab, n=2, steps=3)
    assert found.numbers.columns == ("metric", "value", "reference", "verdict", "meaning")
    assert {row[0] for row in found.numbers.cells if not row[-1]} == set()
    assert ("reward", "better than before") in {(row[0], row[3]) for row in found.numbers.cells}
    assert [picture.caption for picture in found.pictures] == ["Before", "Steered"]


def test_the_first_wish_of_pictures_ends_at_a_value(on_page, monkeypatch):
    wished: list[tuple[str, ...]] = []

    def follow(run, config, **_):
        wished.append(config.rewards)
        raise InputError("enough")

    monkeypatch.setattr("feller.app.workflows.steering.reward_search.search_reward", follow)
    tab = tab_of(on_page("digits"), "Steer")
    for more in ({}, {"ink": 0.25}, {"reward": "ink"}, {"reward": "less ink", "ink": 0.1}):
        with pytest.raises(InputError):
            ask(tab, **more)
    assert wished == [("ink == 0.4",), ("ink == 0.25",), ("ink",), ("-1 * ink",)]
    assert "degenerate" in tab.controls["reward"].info
    choice, seen = tab.dependent_controls["ink"]
    assert choice == "reward"
    assert [seen(wish)["visible"] for wish in ("target ink, set below", "ink")] == [True, False]


def test_points_are_steered_too(on_page, tmp_path, monkeypatch):
    own = right(tmp_path)
    rewards = (f"{own}:right", f"{own}:right <= 0.1")
    tab = tab_of(on_page("moons", rewards=rewards), "Steer")
    assert "with a bound" not in ask(tab, reward="r.py:right <= 0.1").message
    framed: list[tuple[int, int]] = []
    scatter = euclidean_points.scatter

    def seen(values, *words, same_scale_as, background):
        framed.append((len(same_scale_as), len(background)))
        return scatter(values, *words, same_scale_as=same_scale_as, background=background)

    monkeypatch.setattr(euclidean_points, "scatter", seen)
    found = ask(tab, n=3, steps=2)
    assert framed == [(3, 1000), (3, 1000)]  # each has room for the other, and for what both are seen before
    assert "with a bound" in found.message
    before, after = (np.array(Image.open(shown.path)) for shown in found.pictures)
    assert before.shape == after.shape
    assert (before != after).any()
    assert ("reward", "better than before") in {(row[0], row[3]) for row in found.numbers.cells}


def test_a_bound_says_what_was_reached(on_page, tmp_path):
    own = right(tmp_path)
    rewards = (f"{own}:right >= 0.5", f"{own}:right >= 99")
    tab = tab_of(on_page("moons", rewards=rewards), "Steer")
    for reward, is_reached in (("r.py:right >= 0.5", True), ("r.py:right >= 99", False)):
        found = ask(tab, n=3, steps=8, reward=reward)
        rows = {row[0]: row for row in found.numbers.cells}
        _, value, reference, verdict, _ = rows["bounded quantity"]
        assert reference.startswith(("0.5", "99"))
        assert (verdict == "target reached") == is_reached
        assert value in found.message
        assert "bounded quantity, before" in rows


@pytest.mark.slow
def test_wishes_for_molecules_wait_for_their_elements(on_page, tmp_path):
    own = tmp_path / "r.py"
    own.write_text("def wide(values, given):\n    return values['place'].square().mean((1, 2))\n")
    page = on_page("molecules", rewards=(f"{own}:wide",))
    with pytest.raises(UsageError, match="element"):
        ask(tab_of(page, "Steer"), n=1)
    elements = tab_of(page, "Steer").controls["given"]
    assert "element" in elements.info
    assert len(ask(tab_of(page, "Steer"), n=1, given="element=C4H8O2").pictures) == 2


def test_a_client_cannot_name_code(on_page, tmp_path):
    own = tmp_path / "r.py"
    own.write_text("raise SystemExit\n")
    with pytest.raises(Exception, match="not in the list"):
        ask(tab_of(on_page("digits"), "Steer"), reward=f"{own}:left")
