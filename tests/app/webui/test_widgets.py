"""Uploaded images, canvases and recordings."""

import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

from feller.app.webui.tabs.speech_tabs import GROUND, length_of, span, wave
from feller.app.webui.widgets import BRUSH_COLOURS, check_picture, read_canvas
from feller.core.errors import UsageError
from tests.errors import refuses

STUBS = """
import inspect, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from feller.app.webui import widgets
gradio = widgets.gradio()
assert opened and not any(name.endswith(".pyi") for name in opened)
assert inspect.getfile(gradio.Textbox) == sys.modules["gradio.components.textbox"].__file__
"""


@pytest.mark.slow
def test_gradio_writes_no_stubs():
    subprocess.run([sys.executable, "-c", STUBS], check=True)


def test_uploaded_images_are_read_whole(tmp_path):
    whole = io.BytesIO()
    Image.effect_noise((32, 32), 64).save(whole, "png")
    for name, content in (("broken", b"no picture"), ("half", whole.getvalue()[:400]), ("whole", whole.getvalue())):
        (tmp_path / f"{name}.png").write_bytes(content)
    Image.new("RGB", (8, 8)).save(tmp_path / "script.png", "eps")  # Pillow would have another program run it
    for name in ("broken", "half", "script"):
        with refuses(UsageError) as caught:
            check_picture(str(tmp_path / f"{name}.png"))
        assert f"{name}.png" in str(caught.value)
    assert check_picture(str(tmp_path / "whole.png")) == tmp_path / "whole.png"
    assert check_picture(None) is None


def test_canvas_is_an_image_and_a_mask():
    picture, layer = Image.new("RGB", (4, 4)), Image.new("RGBA", (4, 4))
    assert read_canvas(None) == read_canvas({"background": None, "layers": [layer]}) == (None, None)
    assert read_canvas({"background": picture, "layers": [layer]}) == (picture, None)
    layer.putpixel((1, 2), (255, 255, 255, 255))
    _, mask = read_canvas({"background": picture, "layers": [layer, None]})
    assert [(x, y) for x in range(4) for y in range(4) if mask.getpixel((x, y))] == [(1, 2)]


def test_brush_contrasts_with_any_colour():
    """Of the two colours one is far from whatever a pixel has, and the first from all greys."""

    def far(mark, pixel):
        return max(abs(a - b) for a, b in zip(mark, pixel, strict=True))

    levels = range(0, 256, 15)
    assert min(max(far(mark, pixel) for mark in BRUSH_COLOURS) for pixel in itertools.product(levels, repeat=3)) >= 100
    assert min(far(BRUSH_COLOURS[0], (grey,) * 3) for grey in range(256)) >= 100


def test_span_is_marked_or_typed():
    picture, layer = Image.new("RGB", (10, 4)), Image.new("RGBA", (10, 4))
    typed = {"span": {"background": picture, "layers": [layer]}, "begin": 1.0, "end": 3.0}
    assert span(typed, 20.0) == (1.0, 3.0)
    layer.paste((255, 255, 255, 255), (2, 1, 5, 3))
    assert span(typed, 20.0) == (4.0, 10.0)
    for begin, end in ((3.0, 1.0), (1.0, 30.0)):
        with refuses(UsageError):
            span({"span": None, "begin": begin, "end": end}, 20.0)


def test_waveform_has_a_linear_time_axis(tmp_path):
    sound = np.zeros(16_000)
    sound[4_000:8_000] = np.sin(np.arange(4_000))
    soundfile.write(tmp_path / "own.wav", sound, 16_000)
    assert length_of(tmp_path / "own.wav") == 1.0
    found = np.asarray(wave(tmp_path / "own.wav", (200, 40)))
    assert found.shape == (40, 200, 3)
    loud = (found != GROUND).any(-1).sum(0) > 10
    assert loud[50:100].all()
    assert not loud[:50].any()
    assert not loud[100:].any()
