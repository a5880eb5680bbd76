"""Tabs that fill in and restore: what is known stays, all else is drawn."""

import csv
import re

import numpy as np
from PIL import Image

from feller.core.errors import UsageError
from tests.app.webui.asking import ask, options, tab_of, usual
from tests.errors import refuses


def test_a_picture_keeps_what_is_not_drawn_over(on_page):
    tab = tab_of(on_page("digits"), "Fill in")
    size = tab.controls["mask"].canvas_size
    levels = np.random.default_rng(0).integers(0, 17, (8, 8))
    picture = Image.fromarray((levels * 255 / 16).round().astype(np.uint8)).resize(size, 0)
    layer = Image.new("RGBA", size)
    layer.paste((255, 255, 255, 255), (0, 0, size[0] // 2, size[1]))
    found = ask(tab, mask={"background": picture, "layers": [layer], "composite": None})
    filled = np.load(found.files[0])["samples"]
    assert (filled[:, :, 4:] == levels[:, 4:]).all()
    assert (filled[0, :, :4] != filled[1, :, :4]).any()
    assert [picture.caption for picture in found.pictures] == ["Masked input", "Filled in"]
    assert tab.initial_value[1]()["background"].size == size
    for sent in (None, {"background": None}, {"background": picture, "layers": [Image.new("RGBA", size)]}):
        with refuses(UsageError):
            ask(tab, mask=sent)


def test_texts_go_on_and_gaps_are_filled(on_page):
    tab = tab_of(on_page("book"), "Fill in")
    found = ask(tab, n=1, known="To be___ not")
    assert re.match(r"To be... not", found.words, re.DOTALL)
    assert len(found.words) > len("To be___ not")
    with refuses(UsageError):
        ask(tab, known="ß")


def test_cells_that_are_typed_stay_and_the_others_are_filled(on_page):
    tab = tab_of(on_page("people"), "Fill in")
    found = ask(tab, complete=[["30", "", None], ["", "Masters", "no"], ["", "", ""]])
    first, second = found.table.cells
    assert first[0] == "30"
    assert second[1:] == ("Masters", "no")
    assert all(map(len, (*first, *second)))
    assert list(csv.reader(found.files[0].open()))[1:] == [list(first), list(second)]
    with refuses(UsageError):
        ask(tab, complete=[["", "", ""]])
    assert ask(tab).table is not None


def test_the_example_of_a_row_is_a_usual_one(on_page):
    first, *others = usual(tab_of(on_page("people"), "Fill in"))["complete"]
    assert 30 <= int(first[0]) <= 60  # of ages from 20 to 69
    assert not any(cell for row in (first[1:], *others) for cell in row)


def test_pictures_are_restored_from_what_is_left_of_them(on_page, tmp_path):
    page = on_page("digits")
    tab, levels = tab_of(page, "Restore"), np.random.default_rng(0).integers(0, 17, (8, 8))
    assert "grayscale" not in options(tab, "operator")
    Image.fromarray((levels * 255 / 16).round().astype(np.uint8)).save(tmp_path / "own.png")
    found = ask(tab, n=2, observe=str(tmp_path / "own.png"), operator="downsampling 2 x 2")
    captions = ["Original", "Measurement", "Posterior samples", "Posterior mean"]
    assert [shown.caption for shown in found.pictures] == captions
    made = np.load(found.files[0])["samples"]
    made, given = (one.reshape(-1, 4, 2, 4, 2).mean((2, 4), dtype=float) for one in (made, levels))
    for each in made:  # not equal, as what an untrained model draws beyond black and white is cut
        assert np.corrcoef(each.ravel(), given.ravel())[0, 1] > 0.8
    assert ask(tab, n=1, operator="16 random sums of all pixels").pictures[1].caption == "Posterior samples"
    assert re.fullmatch(r"Root mean .*: (less than 0.01|\d+\.\d\d) of 16 gray levels\.", found.message)
    (tmp_path / "no.png").write_bytes(b"no picture")
    with refuses(UsageError, file="no.png"):
        ask(tab, observe=str(tmp_path / "no.png"))
