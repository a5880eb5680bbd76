import base64
import io

import numpy as np
import pytest
from PIL import Image

from feller.evaluation.report.figure import HEAVIEST, LONGEST, SHOWN, Embedded, common_scale, embedded

RNG = np.random.default_rng(0)


def noise(*shape: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))


def shown(*pictures: Image.Image) -> list[tuple[Embedded, Image.Image]]:
    scale = common_scale(list(pictures))
    found = []
    for picture in pictures:
        image = embedded("a < b", picture, scale)
        kind, data = image.source.split(",")
        assert kind == "data:image/png;base64"
        found.append((image, Image.open(io.BytesIO(base64.b64decode(data, validate=True)))))
    return found


@pytest.mark.parametrize("shape", [(8, 8), (64, 64, 3), (50, 310), (502, 502)])
def test_small_pictures_grow_without_blur(shape: tuple[int, ...]) -> None:
    picture = noise(*shape)
    ((image, seen),) = shown(picture)
    factor = seen.width // picture.width
    assert seen.size == (picture.width * factor, picture.height * factor)
    assert max(seen.size) >= 2 * SHOWN  # sharp on a screen with two dots a pixel
    assert (np.asarray(seen) == np.asarray(picture).repeat(factor, 0).repeat(factor, 1)).all()
    width = image.width
    assert width % picture.width == 0
    assert SHOWN // 2 < max(width, image.height) <= SHOWN


def test_pictures_to_compare_have_one_scale() -> None:
    (one, _), (other, _) = shown(noise(80, 80), noise(40, 40))
    assert one.width == 2 * other.width == SHOWN


def test_large_and_heavy_pictures_are_bounded() -> None:
    ((image, seen),) = shown(noise(1000, 3000, 3))
    assert max(seen.size) <= LONGEST
    assert len(base64.b64decode(image.source.split(",")[1])) <= HEAVIEST
    assert seen.width / seen.height == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_every_mode_is_embedded(mode: str) -> None:
    picture = noise(16, 16) if mode == "I;16" else noise(16, 16, 3).convert(mode)
    ((image, seen),) = shown(picture.convert("I;16") if mode == "I;16" else picture)
    assert seen.mode in ("L", "LA", "RGB", "RGBA")
    assert image.caption == "a < b"


def test_the_caller_keeps_its_picture() -> None:
    picture = noise(1200, 2500)
    shown(picture)
    assert picture.size == (2500, 1200)
