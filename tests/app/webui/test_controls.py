"""What a client sends is read as what it may be, and nothing else."""

import io
import itertools
import pathlib
from typing import Any

import pytest
from PIL import Image

from feller.app.webui.controls import MARKS, Cells, Choice, Drawing, Number, Picture, Unreadable, Upload, Wave, Words
from feller.app.webui.limits import Limits
from feller.app.webui.tabs.sample import seeded
from feller.core.errors import UsageError

LIMITS = Limits(letters=10, rows=2, upload=5)


@pytest.mark.parametrize("sent", [0, 11, 2.5, None, "3", True, float("nan"), float("inf"), [3], {"n": 3}])
def test_numbers_out_of_range_are_refused(sent: Any) -> None:
    with pytest.raises(UsageError, match="How many"):
        Number(label="How many", value=3, least=1, most=10).read(sent, LIMITS)


def test_numbers_are_written_as_people_do() -> None:
    with pytest.raises(UsageError, match=r"from 0 to 2,147,483,647$"):
        seeded().read(None, LIMITS)
    with pytest.raises(UsageError, match=r"from 0 to 2,147,483,647 here, got 3,000,000,000$"):
        seeded().read(3e9, LIMITS)
    with pytest.raises(UsageError, match=r"from 0\.5 to 2 here, got 2\.25$"):
        Number(label="Speed", value=1, least=0.5, most=2.0, whole=False).read(2.25, LIMITS)


def test_a_seed_is_read_as_it_was_typed() -> None:
    seed = seeded()
    assert [seed.read(sent, LIMITS) for sent in ("7", " 12 ", 3, 4.0)] == [7, 12, 3, 4]
    for sent, told in (
        ("9" * 23, r"here, got 99,999,999,999,999,999,999,999$"),
        ("abc", r"^Seed takes a whole number, got 'abc'$"),
        ("2.7", r"^Seed takes a whole number, got '2\.7'$"),
        ("9" * 5000, r"^Seed takes a whole number, got '9{40}'$"),
        ("-1", r"here, got -1$"),
        ("", r"^Seed is empty"),
        (10**400, r"^Seed goes from 0"),
    ):
        with pytest.raises(UsageError, match=told):
            seed.read(sent, LIMITS)


def test_a_picture_is_one_that_can_be_read_whole(tmp_path: pathlib.Path) -> None:
    control, limits = Picture(label="Picture"), Limits()
    whole = io.BytesIO()
    Image.effect_noise((32, 32), 64).save(whole, "png")
    for name, content in (("broken", b"no picture"), ("half", whole.getvalue()[:400]), ("whole", whole.getvalue())):
        (tmp_path / f"{name}.png").write_bytes(content)
    Image.new("RGB", (8, 8)).save(tmp_path / "script.png", "eps")  # Pillow would have another program run it
    for name in ("broken", "half", "script"):
        with pytest.raises(UsageError, match=rf"^{name}.png: this is no picture that can be read"):
            control.read(str(tmp_path / f"{name}.png"), limits)
    assert control.read(str(tmp_path / "whole.png"), limits) == tmp_path / "whole.png"
    with pytest.raises(UsageError, match=r"^own.png: this is no picture"):
        Drawing(label="Picture", size=(4, 4)).read(Unreadable("own.png"), limits)


def test_numbers_are_whole_where_they_must_be() -> None:
    assert Number(label="n", value=3, least=1, most=10).read(4.0, LIMITS) == 4
    assert Number(label="w", value=1.0, least=0, most=10, whole=False).read(2.5, LIMITS) == 2.5


@pytest.mark.parametrize("sent", ["8", "", None, 7, ["7"]])
def test_choices_are_of_the_list(sent: Any) -> None:
    control = Choice(label="Label", options=("7", "9"), value="7")
    assert control.read("9", LIMITS) == "9"
    with pytest.raises(UsageError, match="choose one of the list"):
        control.read(sent, LIMITS)


def test_texts_are_short() -> None:
    assert Words(label="Text").read(None, LIMITS) == ""
    assert Words(label="Text").read("0123456789", LIMITS) == "0123456789"
    with pytest.raises(UsageError, match="10 characters here, got 11"):
        Words(label="Text").read("0123456789a", LIMITS)
    with pytest.raises(UsageError, match="takes a text"):
        Words(label="Text").read(["x"], LIMITS)


def test_cells() -> None:
    control = Cells(label="Rows", columns=("a", "b"), rows=())
    assert control.read([["1", None], ["", ""], [" ", 2]], LIMITS) == [["1", ""], [" ", "2"]]
    assert control.read(None, LIMITS) == []
    for sent, why in (([["1"]], "2 columns"), ([["1", "2"]] * 3, "2 rows here, got 3"), ([["x" * 11, ""]], "shorten")):
        with pytest.raises(UsageError, match=why):
            control.read(sent, LIMITS)


def test_uploads(tmp_path: pathlib.Path) -> None:
    control = Upload(label="Voice")
    assert control.read(None, LIMITS) is None
    (tmp_path / "a").write_bytes(b"12345")
    assert control.read(str(tmp_path / "a"), LIMITS) == tmp_path / "a"
    (tmp_path / "b").write_bytes(b"123456")
    with pytest.raises(UsageError, match="a smaller one"):
        control.read(str(tmp_path / "b"), LIMITS)
    with pytest.raises(UsageError, match="upload it again"):
        control.read(str(tmp_path / "c"), LIMITS)


def test_a_drawing_is_a_picture_and_where_it_is_drawn_over() -> None:
    control = Drawing(label="Picture", size=(4, 4), first=lambda: Image.new("L", (4, 4)))
    picture, layer = Image.new("RGB", (4, 4)), Image.new("RGBA", (4, 4))
    with pytest.raises(UsageError, match="draw over"):
        control.read({"background": picture, "layers": [layer]}, LIMITS)
    layer.putpixel((1, 2), (255, 255, 255, 255))
    drawn = control.read({"background": picture, "layers": [layer, None]}, LIMITS)
    assert [(x, y) for x in range(4) for y in range(4) if drawn.mask.getpixel((x, y))] == [(1, 2)]
    for sent in (None, {}, {"background": None, "layers": [layer]}, "x"):
        with pytest.raises(UsageError, match="put a picture"):
            control.read(sent, LIMITS)


def test_a_mark_is_seen_on_any_colour() -> None:
    """Of the two colours one is far from whatever a pixel has, and the first from all greys."""

    def far(mark: tuple[int, ...], pixel: tuple[int, ...]) -> int:
        return max(abs(a - b) for a, b in zip(mark, pixel, strict=True))

    levels = range(0, 256, 15)
    assert min(max(far(mark, pixel) for mark in MARKS) for pixel in itertools.product(levels, repeat=3)) >= 100
    assert min(far(MARKS[0], (grey,) * 3) for grey in range(256)) >= 100


def test_a_span_is_where_something_is_drawn_over_a_wave() -> None:
    control = Wave(label="Wave", of="recording", size=(10, 4), draw=lambda path, size: Image.new("RGB", size))
    picture, layer = Image.new("RGB", (10, 4)), Image.new("RGBA", (10, 4))
    assert control.read({"background": picture, "layers": [layer]}, LIMITS) is None
    layer.paste((255, 255, 255, 255), (2, 1, 5, 3))
    assert control.read({"background": picture, "layers": [layer]}, LIMITS) == (0.2, 0.5)
    for sent in (None, {}, "x", {"background": None, "layers": [layer]}, {"background": picture, "layers": "x"}):
        assert control.read(sent, LIMITS) is None
