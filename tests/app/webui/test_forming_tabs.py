"""The tab that shows samples form: it ends where samples do, and says its time."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from feller.app.webui.tabs.animation_tab import with_time
from tests.app.webui.asking import ask, tab_of


@pytest.mark.parametrize("name", ["digits", "moons", "quakes"])
def test_samples_form_in_pictures_that_move_and_end_where_samples_do(on_page, name):
    page = on_page(name)
    found = ask(tab_of(page, "Watch"), n=4)
    about = page[0].spec
    _, _, times = replace(about.sampling, nfe=4).resolve(about.path, about.space)
    with Image.open(found.pictures[0].path) as film:
        assert 2 <= film.n_frames <= len(times)  # pictures that are the same are one
    ours, theirs = found.files[1], ask(tab_of(page, "Sample"), n=4).files[0]
    assert ours.read_bytes() == theirs.read_bytes() if ours.suffix == ".csv" else _same(ours, theirs)


def test_pictures_say_their_time():
    frame = Image.new("L", (64, 40))
    first, later = (np.array(with_time(frame, t)) for t in (0.0, 0.5))
    assert first.shape == later.shape == (40 + 28, 64, 3)
    assert (first[28:] == 0).all()  # the picture is whole
    assert (first[:28] != later[:28]).any()


@pytest.mark.parametrize(("name", "what"), [("digits", "frame"), ("book", "line")])
def test_calls_say_what_each_step_gives(on_page, name, what):
    assert tab_of(on_page(name), "Watch").controls["nfe"].info == f"One {what} per step."


def _same(one, other):
    return bool((np.load(one)["samples"] == np.load(other)["samples"]).all())


def test_a_text_forms_from_nothing_decided_to_all(on_page):
    found = ask(tab_of(on_page("book"), "Watch")).table
    times, texts = zip(*found.cells, strict=True)
    assert (times[0], times[-1]) == ("0.00", "1.00")
    undecided = [text.count("·") / len(text) for text in texts]
    assert undecided == sorted(undecided, reverse=True)
    assert (undecided[0], undecided[-1]) == (1, 0)
