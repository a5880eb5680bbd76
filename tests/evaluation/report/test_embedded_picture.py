"""Pictures of the report: scales, loss curves, predictions, codes."""

import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from feller.data.images.modality import Images
from feller.evaluation.report.embedded_picture import (
    MAX_PICTURE_BYTES,
    MAX_SIDE,
    PAGE_PIXELS,
    EmbeddedPicture,
    common_scale,
    embed_picture,
)
from feller.evaluation.report.loss_curve import HUGE, finite_losses, is_logarithmic, loss_svg, smooth
from feller.evaluation.report.prediction_plots import (
    plot_code_usage,
    plot_confusion_matrix,
    plot_predictions,
    plot_reconstructions_grid,
)
from tests.errors import numbers
from tests.evaluation.report.reader import Node, read

RNG = np.random.default_rng(0)


def noise(*shape: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))


def shown(*pictures: Image.Image) -> list[tuple[EmbeddedPicture, Image.Image]]:
    scale = common_scale(list(pictures))
    found = []
    for picture in pictures:
        image = embed_picture("a < b", picture, scale)
        kind, data = image.source.split(",")
        assert kind == "data:image/png;base64"
        found.append((image, Image.open(io.BytesIO(base64.b64decode(data, validate=True)))))
    return found


@pytest.mark.parametrize("shape", [(8, 8), (64, 64, 3), (50, 310), (502, 502)])
def test_small_pictures_are_enlarged(shape: tuple[int, ...]) -> None:
    picture = noise(*shape)
    ((image, seen),) = shown(picture)
    factor = seen.width // picture.width
    assert seen.size == (picture.width * factor, picture.height * factor)
    assert max(seen.size) >= 2 * PAGE_PIXELS  # sharp on a screen with two dots a pixel
    assert (np.asarray(seen) == np.asarray(picture).repeat(factor, 0).repeat(factor, 1)).all()
    width = image.width
    assert width % picture.width == 0
    assert PAGE_PIXELS // 2 < max(width, image.height) <= PAGE_PIXELS


def test_common_scale() -> None:
    (one, _), (other, _) = shown(noise(80, 80), noise(40, 40))
    assert one.width == 2 * other.width == PAGE_PIXELS


def test_size_limits() -> None:
    ((image, seen),) = shown(noise(1000, 3000, 3))
    assert max(seen.size) <= MAX_SIDE
    assert len(base64.b64decode(image.source.split(",")[1])) <= MAX_PICTURE_BYTES
    assert seen.width / seen.height == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_image_modes(mode: str) -> None:
    picture = noise(16, 16) if mode == "I;16" else noise(16, 16, 3).convert(mode)
    ((image, seen),) = shown(picture.convert("I;16") if mode == "I;16" else picture)
    assert seen.mode in ("L", "LA", "RGB", "RGBA")
    assert image.caption == "a < b"


def test_input_is_not_modified() -> None:
    picture = noise(1200, 2500)
    shown(picture)
    assert picture.size == (2500, 1200)


FINITE = st.floats(-1e29, 1e29)


def drawing(loss: list[float], first: int = 1) -> Node:
    return read(loss_svg([{"step": first + i, "loss": value} for i, value in enumerate(loss)]))


@settings(deadline=None, max_examples=8)
@given(loss=st.lists(st.one_of(FINITE, st.floats(1e-12, 1e-9)), min_size=2, max_size=30), first=st.integers(0, 10**7))
@example(loss=[4503599627370496.0, 1.1125369292536007e-308], first=0)
@example(loss=[1e-323, 6e-323], first=0)
@example(loss=[0.0, 0.0], first=0)
@example(loss=[1e20, 1e20 + 16384], first=0)
def test_loss_svg_of_finite_losses(loss: list[float], first: int) -> None:
    page = drawing(loss, first)
    assert not re.search(r"\b(nan|inf)\b", str([path.attributes.get("d") for path in page.all("path")]))
    assert len(page.all("svg")) == 2


def test_loss_svg_colours_and_label() -> None:
    page = drawing([2.0 * 0.95**step for step in range(1, 101)])
    wide, narrow = page.all("svg")
    assert (wide.attributes["class"], narrow.attributes["class"]) == ("plot wide", "plot narrow")
    assert wide.attributes["role"] == "img"
    assert numbers(wide.attributes["aria-label"])[:2] == ["1.90", "1"]
    styles = " ".join(node.attributes.get("style") or "" for node in page.all(""))
    assert "var(--accent" in styles
    assert not re.search("#0[1-4]0[1-4]0[1-4]", styles)


def test_loss_svg_of_one_step() -> None:
    assert loss_svg([]) == loss_svg([{"step": 1, "loss": 2.0}]) == ""


def test_is_logarithmic() -> None:
    assert is_logarithmic(np.array([1.0, 0.1]))
    assert not is_logarithmic(np.array([1.0, 0.11]))
    assert not is_logarithmic(np.array([1.0, -10.0]))


def test_smooth() -> None:
    ramp = np.arange(1000.0)
    at = np.array([0, 10, 500, 999])
    assert smooth(ramp, at)[:3] == pytest.approx([0, 10, 500])  # a symmetric window keeps a straight line
    assert 970 <= smooth(ramp, at)[3] < 999  # the end has earlier steps only
    noise = np.random.default_rng(0).normal(size=10_000)
    assert smooth(noise, np.arange(2000, 8000)).std() == pytest.approx(1 / math.sqrt(601), rel=0.5)


def test_smooth_with_a_spike() -> None:
    loss = np.full(1000, 0.25)
    loss[10] = 1e25
    assert smooth(loss, np.array([500])).tolist() == [0.25]


def test_finite_losses() -> None:
    curve = [
        {"step": 2, "loss": 5.0},
        {"step": 3, "loss": 1.0},
        {"step": 1, "loss": 9.0},
        {"step": 2, "loss": 4.0},
        {"step": 4, "loss": float("nan")},
        {"step": 5, "loss": HUGE},
        {"step": 6},
        {"loss": 1.0},
    ]
    steps, loss = finite_losses(curve)
    assert steps.tolist() == [1, 2, 3]
    assert loss.tolist() == [9, 4, 1]


def test_loss_svg_of_long_runs() -> None:
    loss = np.random.default_rng(0).random(20_000)
    curve = [{"step": step, "loss": float(value)} for step, value in enumerate(loss)]
    text = loss_svg(curve)
    assert len(text) < 120_000
    assert text == loss_svg(curve)


def test_plot_predictions_and_confusion_matrix() -> None:
    picture = plot_predictions(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.5, 2.0], [2.0, 8.0]]), ("a", "$b_c"))
    assert picture.size == (800, 400)
    told = np.array([0, 1, 1, 1])
    table = np.asarray(plot_confusion_matrix(told, np.array([0, 1, 1, 0]), ("x", "y")).convert("L")).astype(float)
    dark = (table < 100).mean(1)  # the second class is always told right: its row holds the darkest field
    assert dark[len(dark) // 2 :].sum() > dark[: len(dark) // 2].sum()


def test_plot_reconstructions_grid() -> None:
    """Five pictures in rows of two: the fifth fills no row; the panels' middles are read back."""
    kind = Images(2, 2, 1)
    real, made = (torch.arange(5).mul(20).add(start).to(torch.uint8)[:, None, None, None] for start in (0, 100))
    shown = plot_reconstructions_grid(kind, real.expand(5, 1, 2, 2), made.expand(5, 1, 2, 2), 2)
    cells = np.asarray(shown)
    rows, columns = (np.array_split(np.arange(n), m) for n, m in zip(cells.shape, (4, 2), strict=True))
    middles = [[int(cells[row[len(row) // 2], column[len(column) // 2]]) for column in columns] for row in rows]
    assert middles == [[0, 20], [100, 120], [40, 60], [140, 160]]
    alone = plot_reconstructions_grid(kind, real[:1].expand(1, 1, 2, 2), made[:1].expand(1, 1, 2, 2), 12)
    assert alone.height > alone.width


def test_plot_code_usage() -> None:
    for shares in (np.full(256, 1 / 256), np.eye(3)[0], np.array([0.5, 0.5, *[0.0] * 254])):
        assert min(plot_code_usage(shares).size) > 200
