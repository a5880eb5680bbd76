"""Draws one picture for each journey, from what the commands of the landing page have written.

python docs/pictures/journeys.py WORK [NAME ...]: WORK is the folder where they ran, COMMANDS below. Writes
journeys/NAME.png beside itself; a picture whose files are not in WORK is left as it is, and said.
"""

import itertools
import pathlib
import sys
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile
import torch
from matplotlib.figure import Figure
from PIL import Image
from style import BLUE, GREEN, INK, LOOK, ORANGE, SOFT, bare, save

from feller import Euler, Rng, linear_grid
from feller.data.loading.dataset_reader import read
from feller.paths import IntervalBins, JumpPath
from feller.sampling import trajectory

HERE = pathlib.Path(__file__).parent
SIZE = (4.4, 2.75)
COMMANDS = """
feller fit example:digits --minutes 2.5 --out runs/digits
feller sample runs/digits -n 100 --out digits.npz
feller fit example:adult --epsilon 4 --recipe table-marginals --out runs/adult
feller sample runs/adult -n 32561 --out synthetic.csv
feller sample runs/digits -n 8 --out plain.npz
feller steer runs/digits --reward "ink >= 0.4" -n 8 --out thick.npz
feller tune runs/digits --reward ink --strength 60 --steps 60 --out runs/thick
feller sample runs/thick -n 8 --out tuned.npz
feller bridge left.csv right.csv --cost room.png --out runs/room    # files of the page on bridges
feller data scenes --out scenes                                     # and the commands of the page on pictures and words
"""


def digit(axes: plt.Axes, picture: np.ndarray) -> None:
    """Draw ink on paper."""
    bare(axes).imshow(picture.squeeze(), cmap="gray_r", vmin=0, vmax=16, interpolation="nearest")


def strips(rows: dict[str, list[Callable[[plt.Axes], object]]]) -> Figure:
    """Draw rows of small pictures, each below its words."""
    figure, panels = plt.subplots(len(rows), max(map(len, rows.values())), figsize=SIZE)
    for line, (words, parts) in zip(panels, rows.items(), strict=True):
        for axes in line:
            bare(axes)
        line[0].set_title(words, loc="left", pad=4, fontsize=10)
        for axes, part in zip(line, parts, strict=False):
            part(axes)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.9, wspace=0.08, hspace=0.38)
    return figure


def fit(work: pathlib.Path) -> Figure:
    """Digits that a small network drew, some of each class."""
    drawn = np.load(work / "digits.npz")
    images = drawn["images" if "images" in drawn else drawn.files[0]]
    figure, panels = plt.subplots(6, 10, figsize=SIZE)
    for axes, picture in zip(panels.T.flat, images[[10 * row + k for k in range(10) for row in range(6)]], strict=True):
        digit(axes, picture)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.98, wspace=0.06, hspace=0.06)
    return figure


def private(work: pathlib.Path) -> Figure:
    """Ages, and who earns much by age: rows of people, and rows that are made up."""
    made, people = pd.read_csv(work / "synthetic.csv"), read("example:adult")
    people.modality.write(people.values, people.given, work / "real.csv")
    frames = {"real": pd.read_csv(work / "real.csv"), "made up": made}
    figure, (left, right) = plt.subplots(1, 2, figsize=SIZE, layout="constrained")
    edges = np.arange(15, 95, 5)
    for (name, table), colour in zip(frames.items(), (SOFT, BLUE), strict=True):
        age = table["age"].astype(float)
        rich = table["income"].astype(str).str.contains(">50K")
        left.hist(age, edges, density=True, color=colour, histtype="stepfilled" if colour == SOFT else "step", lw=1.8)
        share = rich.groupby(pd.cut(age, np.arange(15, 85, 10))).mean()
        right.plot(np.arange(20, 80, 10), share, marker="o", ms=4, color=INK if colour == SOFT else BLUE, label=name)
    left.set_title("age")
    left.set_yticks([])
    right.set_title("share above $50K", parse_math=False)
    right.legend(loc="upper right")
    right.set_ylim(0, 0.65)
    return figure


def steer(work: pathlib.Path) -> Figure:
    """The same source points: as they are, steered, and by the tuned model."""
    rows = {"as drawn": "plain", "steered: ink >= 0.4": "thick", "tuned to more ink": "tuned"}
    found = {words: np.load(work / f"{name}.npz") for words, name in rows.items() if (work / f"{name}.npz").is_file()}
    return strips(
        {
            words: [lambda axes, picture=picture: digit(axes, picture) for picture in drawn[drawn.files[0]][:8]]
            for words, drawn in found.items()
        }
    )


def bridge(work: pathlib.Path) -> Figure:
    """A crowd that goes through two doors."""
    paths = np.load(work / "runs/room/paths.npz")["paths"]
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    walls = np.asarray(Image.open(work / "room.png").convert("L"))
    axes.imshow(np.where(walls > 127, np.nan, 0.35), cmap="gray", vmin=0, vmax=1, extent=(0, 120, 0, 80))
    for path in paths[:150]:
        axes.plot(*path.T, color=SOFT, linewidth=0.4, alpha=0.7)
    axes.scatter(*paths[:300, 0].T, s=4, color=BLUE, linewidths=0)
    axes.scatter(*paths[:300, paths.shape[1] // 2].T, s=4, color=GREEN, linewidths=0)
    axes.scatter(*paths[:300, -1].T, s=4, color=ORANGE, linewidths=0)
    bare(axes).set_xlim(0, 120)
    axes.set_ylim(0, 80)
    return figure


def documents(work: pathlib.Path) -> Figure:
    """After words, after a memory that is new, and edited."""

    def pictures(folder: str, which: slice) -> list[Callable[[plt.Axes], object]]:
        files = sorted((work / folder).glob("0*.png"))[which]
        return [lambda axes, file=file: axes.imshow(Image.open(file).convert("RGB")) for file in files]

    return strips(
        {
            "a red circle on a blue ground": pictures("circles", slice(0, 6)),
            "a talkip on a green ground, from a memory": pictures("talkips", slice(1, 7)),
            "turn the yellow star red": [*pictures("edited", slice(0, 1)), *pictures("edited", slice(1, 11, 2))],
        }
    )


def speech(work: pathlib.Path) -> Figure:
    """A recording of which one word is said anew; `work` is not needed, the sound stands on the page."""
    new, words = (0.19, 0.72), ((0.095, "has"), (0.455, "always"), (1.35, "been surpassed"))
    sound, rate = soundfile.read(HERE.parent / "sounds/edited.opus", dtype="float32")
    wave = torch.from_numpy(sound.mean(1) if sound.ndim == 2 else sound)
    spectrum = torch.stft(wave, 1024, rate // 100, window=torch.hann_window(1024), return_complex=True).abs()
    level = spectrum.clamp(min=1e-4).log10()[: int(8000 / rate * 1024)]
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    seconds = len(wave) / rate
    low = float(level.max()) - 3
    axes.imshow(level, origin="lower", aspect="auto", cmap="magma", vmin=low, extent=(0, seconds, 0, 8))
    axes.axvspan(*new, ymin=0.97, color=ORANGE)
    for begin, end in ((0, new[0]), (new[1], seconds)):
        axes.axvspan(begin, end, ymin=0.97, color=GREEN)
    for edge in new:
        axes.axvline(edge, color="white", linewidth=1)
    for place, word in words:
        colour = ORANGE if word == "always" else INK
        axes.text(place, -0.35, word, ha="center", va="top", color=colour, fontsize=11)
    bare(axes).set_title("one word is new, all else is kept", fontsize=10)
    return figure


LAWS = ((-1.0, 0.2, 0.3), (1.5, 0.3, 0.7))
"""Centre, deviation and share of the modes of the data."""


def seeded() -> torch.Generator:
    """Return a generator that always gives the same order."""
    return torch.Generator().manual_seed(0)


def library(work: pathlib.Path) -> Figure:
    """One posterior, three processes with the same marginals: a flow, jumps, and half of each."""
    ends = IntervalBins(-2.2, 3.0, 104)
    law = sum(share / wide * torch.exp(-0.5 * ((ends.centres - at) / wide) ** 2) for at, wide, share in LAWS)
    prior = law.log().clamp(min=-1e9).float()
    figure, panels = plt.subplots(1, 3, figsize=SIZE, layout="constrained", sharey=True)
    times = linear_grid(120, 0.0, 0.995)
    ways = ((0.0, "flow", BLUE), (1.0, "jumps", ORANGE), (0.5, "half of each", GREEN))
    for axes, (share, name, colour) in zip(panels, ways, strict=True):
        process = JumpPath(endpoint_support=ends, jump_weight=share).process(
            lambda x, t, given: prior.expand(*x.shape, ends.num_bins), {}
        )
        x_0 = torch.special.ndtri((torch.arange(400) + 0.5) / 400)[torch.randperm(400, generator=seeded())][:, None]
        states = torch.stack([x_0, *trajectory(process, x_0, times, Euler(), Rng(0))])[:, :, 0]
        for line in itertools.islice(states.T, 40):
            axes.plot(times, line, color=colour, linewidth=0.7, alpha=0.7)
        bare(axes).set_title(name, color=colour)
        axes.set_ylim(-2.7, 2.5)
    return figure


JOURNEYS: dict[str, Callable[[pathlib.Path], Figure]] = {
    "fit": fit,
    "private": private,
    "steer": steer,
    "bridge": bridge,
    "documents": documents,
    "speech": speech,
    "library": library,
}


@plt.rc_context(LOOK)
def main() -> None:
    """Draw those whose files are there."""
    if len(sys.argv) < 2:
        raise SystemExit(f"name the folder where these ran:\n{COMMANDS}")
    work, names = pathlib.Path(sys.argv[1]), sys.argv[2:] or JOURNEYS
    for name in names:
        try:
            figure = JOURNEYS[name](work)
        except FileNotFoundError as error:
            print(f"{name}: left as it is, {error.filename} is not there")
            continue
        save(figure, HERE / "journeys" / f"{name}.png")


if __name__ == "__main__":
    main()
