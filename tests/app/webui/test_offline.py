"""What is set before Gradio reads a picture."""

import io
import pathlib

import pytest
from PIL import EpsImagePlugin, Image

from feller.app.webui import asgi

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(ran) print showpage\n%%EOF\n"


def test_no_other_program_reads_a_picture(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")  # as where Ghostscript is installed
    monkeypatch.setattr(EpsImagePlugin.subprocess, "check_call", lambda *words, **how: asked.append(words))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(asgi, "write_no_stubs", lambda: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    for name, value in asgi.SETTINGS.items():
        monkeypatch.setenv(name, value)
    asgi.keep_here(tmp_path)
    with pytest.raises(OSError, match="Ghostscript"):
        Image.open(io.BytesIO(EPS)).load()
    assert not asked
