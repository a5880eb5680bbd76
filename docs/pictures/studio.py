"""Draws studio.png, studio_guidance.png and studio_fill.png: the page of a run of digits in headless Chromium.

From the root of the repository, with a run of `feller fit example:digits`:

    PYTHONPATH=. python docs/pictures/studio.py runs/digits
"""

import pathlib
import sys
import tempfile

from PIL import Image
from tests.app.webui.chromium import VISIBLE, chromium
from tests.app.webui.served import served

HERE = pathlib.Path(__file__).parent
SIZE = (1240, 900)
COLOURS = 128
"""Of the picture's palette, which keeps it small."""
MADE = VISIBLE.format(what=".made img") + ".some(e => e.complete && e.naturalWidth > 8)"
CANVAS = VISIBLE.format(what="canvas") + ".some(e => e.width > 100)"


def main(run: pathlib.Path) -> None:
    """Start the page of a run, use two of its tabs, and take pictures."""
    with tempfile.TemporaryDirectory() as home, served([run]) as client, chromium(pathlib.Path(home)) as page:
        page.resize(*SIZE)
        page.open(client.url)
        page.press("Sample", "button[role=tab]")
        page.wait(MADE)
        page.rest(1000)
        page.picture(HERE / "studio.png")
        page.press("Guidance", "button[role=tab]")
        page.press("Draw the row", "button.primary")
        page.wait(MADE)
        page.rest(1000)
        page.picture(HERE / "studio_guidance.png")
        page.press("Fill in", "button[role=tab]")
        page.wait(CANVAS)
        page.press("Use a sample of the model", "button:not([role=tab])")
        page.rest(4000)
        page.draw((0.35, 0.3), (0.65, 0.3))
        page.press("Fill in", "button.primary")
        page.wait(MADE)
        page.run("window.scrollTo(0, 0)")
        page.rest(1000)
        page.picture(HERE / "studio_fill.png")
    for name in ("studio.png", "studio_guidance.png", "studio_fill.png"):
        Image.open(HERE / name).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(
            HERE / name, optimize=True
        )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
