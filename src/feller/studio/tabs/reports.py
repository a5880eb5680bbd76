"""The reports of a run: how good its samples are, what it promises of rows, and what an audit found."""

import html
import pathlib
import re

from feller.errors import InputError
from feller.journeys.tell import Tell
from feller.studio.controls import Choice
from feller.studio.folders import page_without_folders
from feller.studio.opened import Opened, last_part
from feller.studio.outcome import Outcome
from feller.studio.promised import promise_of
from feller.studio.tab import Ability, Answers, Kind, Place, Tab

REPORT = re.compile(r"report(-.*)?\.html|audit(-.*)?\.html")
MOST = 20 * 2**20
"""Bytes of a report that is shown."""
FIRST, BEGINS = "report", "report-"
CALLED = {FIRST: "evaluation"}
"""What people call a report -> the others by what follows the beginning of their names."""
NONE = "no report yet"


def reports(one: Opened) -> tuple[str, ...]:
    """Return the names of the reports in the folder of a run, the evaluation first; links are not followed."""
    there = [path for path in one.run.path.iterdir() if REPORT.fullmatch(path.name) and _is_own(path)]
    return tuple(sorted((path.stem for path in there), key=lambda name: (name != FIRST, name)))


def _is_own(path: pathlib.Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _tab(one: Opened, place: Place) -> Tab:
    named = {_called(name): name for name in reports(one)}
    names = tuple(named) or (NONE,)

    def does(answers: Answers, tell: Tell) -> Outcome:
        name = named.get(answers["report"]) or next(iter(reports(one)), NONE)
        path = one.run.path / f"{name}.html"
        if not _is_own(path):
            raise InputError(f"there is no report yet; make one with: feller evaluate {one.name}")
        if path.stat().st_size > MOST:
            raise InputError(f"{path.name} is too large to be shown here; open it in the run")
        page = path.read_text(encoding="utf-8", errors="replace")
        return Outcome(said=_promised(one, page), page=page_without_folders(page, _places(one)))

    return Tab(
        about="What evaluations and audits of this run have found. A report on a private run is for its owner alone.",
        controls={"report": Choice(label="Report", options=names, value=names[0])},
        does=does,
        shows=(Kind.PAGE,),
        button="Show",
        looks=True,
    )


def _places(one: Opened) -> dict[str, str]:
    """Return what a report may name of this machine -> what it is called on the page."""
    return {**{place: last_part(place) for place in one.sources}, str(one.run.path): one.name}


def _called(name: str) -> str:
    return CALLED.get(name, name.removeprefix(BEGINS).replace("-", " "))


def _promised(one: Opened, page: str) -> str:
    """Return what a private run guarantees, as far as its report does not say so."""
    lines = promise_of(one).splitlines()
    return "\n".join(line for line in lines if html.escape(line, quote=False) not in page)


REPORTS = Ability(name="Reports", has=lambda one, place: True, tab=_tab)
