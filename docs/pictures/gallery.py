"""Draw the gallery: one figure for each reproduced paper, and the page docs/gallery.md.

Usage: python docs/pictures/gallery.py [NAME ...] [--data DIR] [--claims FILE] [--page]. Without names it draws every
paper that needs no claims file, which takes a few minutes of CPU time in total. Writes gallery/NAME.png and
gallery/NAME.json next to this file, and docs/gallery.md from the JSON files. FILE is the output of
`feller reproduce NAME --json`, for papers whose runs take hours. `--page` draws nothing and only writes the page.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import matplotlib.pyplot as plt
from papers import (
    adjoint_matching,
    cm3leon,
    d_flow,
    flow_matching_guide,
    generator_matching,
    gsbm,
    kinetic_optimal,
    voicebox,
)
from papers.entry import Paper
from style import LOOK, save

from feller_papers import PAPERS

HERE = pathlib.Path(__file__).parent
DRAWN: dict[str, Paper] = {
    "flow-matching-guide": flow_matching_guide.PAPER,
    "kinetic-optimal": kinetic_optimal.PAPER,
    "generator-matching": generator_matching.PAPER,
    "adjoint-matching": adjoint_matching.PAPER,
    "d-flow": d_flow.PAPER,
    "gsbm": gsbm.PAPER,
    "cm3leon": cm3leon.PAPER,
    "voicebox": voicebox.PAPER,
}
FROM_CLAIMS = ("cm3leon", "voicebox")
HEAD = """# Gallery

This page has one figure for each reproduced paper, and the claim that the figure illustrates, with the paper's number
and ours. The text below each figure states the settings of the run that produced the figure. Most of these runs use one
seed and take about a minute. The page [reproduced claims](reference/reproductions.md) has the results of the full runs,
including claims that do not hold. `python docs/pictures/gallery.py` draws the figures again and writes this page.
"""


def draw(name: str, source: pathlib.Path | None) -> None:
    """Draw the figure of a paper; write it and a JSON file with its caption and claim."""
    paper, begun = DRAWN[name], time.process_time()
    figure, claim = paper.draw(source)
    save(figure, HERE / "gallery" / f"{name}.png")
    about = {key: getattr(paper, key) for key in ("title", "arxiv", "run", "caption", "anchor")}
    seconds = None if name in FROM_CLAIMS else round(time.process_time() - begun)
    told = {**about, "picture": f"gallery/{name}.png", "seconds": seconds, "claim": asdict(claim)}
    (HERE / "gallery" / f"{name}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    print(f"{name}: {claim.verdict}; {claim.ours}")


def section(name: str, told: dict[str, Any]) -> str:
    """Return the section of the page about one paper."""
    claim, seconds = told["claim"], told["seconds"]
    spent = f", {seconds} s of CPU time" if seconds else ""
    cells = {
        "claim": claim["claim"],
        "paper": claim["paper"],
        "ours": claim["ours"].split(". ")[0],
        "verdict": claim["verdict"],
    }
    rows = [f"| {key} | {str(cell).replace('|', chr(92) + '|')} |" for key, cell in cells.items()]
    return "\n".join(
        [
            f"## {told['title']}\n",
            f"![{told['caption']}](pictures/{told['picture']})\n",
            f"{told['caption']} Settings of the run for this figure: {told['run']}{spent}.\n",
            "| | |",
            "|---|---|",
            *rows,
            f"\n`feller reproduce {name}` tests [all claims](reference/reproductions.md#{told['anchor']}) "
            f"of the paper [arXiv {told['arxiv']}](https://arxiv.org/abs/{told['arxiv']}).\n",
        ]
    )


def page() -> str:
    """Return the page, from the JSON files that exist."""
    files = {name: HERE / "gallery" / f"{name}.json" for name, paper in PAPERS.items() if paper.arxiv}
    return "\n".join(
        [HEAD, *(section(name, json.loads(file.read_text())) for name, file in files.items() if file.is_file())]
    )


@plt.rc_context(LOOK)
def main(words: Sequence[str] | None = None) -> None:
    """Draw the requested figures and write the page."""
    parser = argparse.ArgumentParser(description="Draw the gallery.")
    parser.add_argument(
        "names", nargs="*", choices=[*DRAWN, []], help="papers to draw (default: all that need no claims file)"
    )
    parser.add_argument("--data", type=pathlib.Path, help="folder with larger data sets")
    parser.add_argument("--claims", type=pathlib.Path, help="output of `feller reproduce NAME --json`")
    parser.add_argument("--page", action="store_true", help="only write the page")
    asked = parser.parse_args(words)
    names = () if asked.page else asked.names or [name for name in DRAWN if name not in FROM_CLAIMS]
    for name in names:
        draw(name, asked.claims if name in FROM_CLAIMS else asked.data)
    (HERE.parent / "gallery.md").write_text(page())


if __name__ == "__main__":
    main()
