"""python -m benchmarks.page: writes the tables of docs/reference/benchmarks.md from benchmarks.json beside it.

A table stands between `<!-- bench:GROUP -->` and `<!-- end:GROUP -->`; the words around it are written by hand. A group
that the file does not hold keeps what stands there. What does not pass is listed at `<!-- bench:verdicts -->`, where
the page has that.
"""

import pathlib
import re
import sys
from typing import Any

from benchmarks.results import FILE, read

PAGE = FILE.parent / "benchmarks.md"
VERDICTS = "verdicts"


def table(found: dict[str, Any]) -> str:
    """Return the table of a group, and a line that tells the machine and the date."""
    rows = found["rows"]
    others = list(dict.fromkeys(name for row in rows for name in row["ratios"]))
    noted, limited = any(row["note"] for row in rows), any(limit(row) for row in rows)
    head = [
        "task",
        "feller, ms",
        *map(over, others),
        *(["allowed"] if limited else []),
        *(["also"] if noted else []),
        "passes",
    ]
    lines = [cells(head), cells(["---"] * len(head))]
    for row in rows:
        ratios = [f"{row['ratios'][name]:.2f}" if name in row["ratios"] else "" for name in others]
        line = [row["name"], span(next(iter(row["milliseconds"].values()))), *ratios]
        line += [limit(row)] if limited else []
        line += [row["note"]] if noted else []
        lines.append(cells([*line, "yes" if row["passed"] else "no"]))
    return "\n".join([*lines, "", where(found)])


def span(milliseconds: float) -> str:
    """Write a time to three digits, or to the millisecond where it has more."""
    return f"{milliseconds:.3g}" if milliseconds < 999.5 else f"{milliseconds:,.0f}"


def verdicts(results: dict[str, Any]) -> str:
    """Return the number and list of the rows that do not pass."""
    rows = [row for found in results.values() for row in found["rows"]]
    failed = [f"- {row['name']}: {missed(row)}" for row in rows if not row["passed"]]
    said = f"{len(failed)} of the {len(rows)} rows below do not pass" if failed else f"All {len(rows)} rows below pass"
    return "\n".join(
        [f"{said}{'; the text next to each table gives the reasons:' if failed else '.'}", "", *failed]
    ).rstrip()


def missed(row: dict[str, Any]) -> str:
    """Say what a row reached, and what it was allowed."""
    others = ", ".join(f"{ratio:.3f} {over(name)}" for name, ratio in row["ratios"].items())
    return f"{others}, {limit(row) or '1.05 of a peer'} allowed"


def cells(words: list[str]) -> str:
    return f"| {' | '.join(word.replace('|', chr(92) + '|') for word in words)} |"


def over(name: str) -> str:
    """Return the head of a column: feller's time over that of a peer or a bare loop."""
    kind, _, what = name.partition(", ")
    return f"/ {what or 'bare loop'}" if kind == "floor" else f"/ {name}"


def limit(row: dict[str, Any]) -> str:
    """Return what is allowed beyond the usual: as fast as a peer, to 5 % of noise; these are exact."""
    parts = [f"{row['max_floor_ratio']:.3g} of the bare loop"] if row["max_floor_ratio"] else []
    parts += [f"{row['max_peer_ratio']:g} of a peer"] if row["max_peer_ratio"] < 1 else []
    parts += [f"{row['max_milliseconds']:g} ms"] if row["max_milliseconds"] else []
    return ", ".join(parts)


def where(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    repeats = sorted({row["repeats"] for row in found["rows"]})
    rounds = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    return (
        f"*Measured on {found['date']} with one thread; processor: {found['processor']}, {found['cores']} cores, load "
        f"average {found['load']:g} at the start. Times are medians of {rounds} rounds. "
        f"Versions of the packages: {versions}.*"
    )


def filled(text: str, results: dict[str, Any]) -> str:
    """Return the page with the tables of these results.

    Raises:
        ValueError: If a group has no place in the page.
    """
    tables = {group: table(found) for group, found in results.items()}
    if f"<!-- bench:{VERDICTS} -->" in text:
        tables[VERDICTS] = verdicts(results)
    for group, words in tables.items():
        place = re.compile(rf"(<!-- bench:{group} -->\n).*?(\n<!-- end:{group} -->)", re.DOTALL)
        if not place.search(text):
            raise ValueError(
                f"the page has no place for {group!r}: write <!-- bench:{group} --> and <!-- end:{group} -->"
            )
        text = place.sub(lambda match, words=words: f"{match[1]}\n{words}\n{match[2]}", text)
    return text


def write(page: pathlib.Path = PAGE, results: pathlib.Path = FILE) -> None:
    page.write_text(filled(page.read_text(), read(results)))


if __name__ == "__main__":
    write()
    sys.exit(0)
