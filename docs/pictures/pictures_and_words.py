"""Draws pictures_and_words.png from what the commands of the page "Pictures and words" have written.

In the folder where they ran: python pictures_and_words.py OUT.png; `edited` is the --out of the edit.
"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

ACROSS = 8
WORD = "talkip"
CREATURES = sorted(path for path in pathlib.Path("scenes/memory").glob("*.txt") if f" {WORD} " in path.read_text())


def drawn(folder: str, first: int = 0, step: int = 1) -> list[pathlib.Path]:
    """Return some of the pictures of a folder."""
    return sorted(pathlib.Path(folder).glob("0*.png"))[first::step]


ROWS = [
    ('--prompt "a red circle on a blue ground"', drawn("circles")),
    (f"in the new memory: {WORD}s, of which no pair shows any", [path.with_suffix(".png") for path in CREATURES]),
    (f'--prompt "a {WORD} on a green ground" --memory scenes/memory', drawn("talkips")),
    ("the same without the memory", drawn("without")),
    ('before, and after --edit "turn the yellow star red"', [*drawn("edited", 0, 2)[:1], *drawn("edited", 1, 2)]),
]


def main() -> None:
    """Put them in rows."""
    figure, grid = plt.subplots(len(ROWS), ACROSS, figsize=(8, 1.25 * len(ROWS)))
    for line, (words, pictures) in zip(grid, ROWS, strict=True):
        line[0].set_title(words, loc="left", fontsize=9, family="monospace")
        for axes in line:
            axes.axis("off")
        for axes, path in zip(line, pictures[:ACROSS], strict=False):
            axes.imshow(Image.open(path).convert("RGB"), interpolation="nearest")
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.06, hspace=0.35)
    figure.savefig(sys.argv[1], dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
