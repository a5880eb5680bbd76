"""The reports of a run: how good its samples are, what it promises of rows, and what an audit found."""

import html
import pathlib
import re
import shlex

from feller.app.reporter import Tell
from feller.app.webui.controls import Choice
from feller.app.webui.folders import page_without_folders
from feller.app.webui.loaded_run import Opened
from feller.app.webui.outcome import Outcome
from feller.app.webui.tab import Ability, Answers, Kind, Place, Tab
from feller.app.webui.tabs.reports import promise_of
from feller.core.errors import InputError

REPORT = re.compile(r"report(-.*)?\.html|audit(-.*)?\.html")
MOST = 20 * 2**20
"""Bytes of a report that is shown."""
FIRST, BEGINS = "report", "report-"
CALLED = {FIRST: "evaluation"}
"""What people call a report -> the others by what follows the beginning of their names."""
NONE = "no report yet"


def reports(one: Opened) -> tuple[str, ...]:
    """Return the names of the reports in the folder of a run, the evaluation first; links are not followed."""
    there = [
        path
        for path in (one.run.path.iterdir() if one.is_there else ())
        if REPORT.fullmatch(path.name) and _is_own(path)
    ]
    return tuple(sorted((path.stem for path in there), key=lambda name: (name != FIRST, name)))


def _is_own(path: pathlib.Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _tab(one: Opened, place: Place) -> Tab:
    def names() -> tuple[str, ...]:
        return tuple(map(_called, reports(one))) or (NONE,)

    def does(answers: Answers, tell: Tell) -> Outcome:
        name = next((name for name in reports(one) if _called(name) == answers["report"]), NONE)
        path = one.run.path / f"{name}.html"
        if not _is_own(path):
            raise InputError(f"there is no report yet; make one with: feller evaluate {shlex.quote(one.folder)}")
        if path.stat().st_size > MOST:
            raise InputError(f"{path.name} is too large to be shown here; open it in the run")
        page = path.read_text(encoding="utf-8", errors="replace")
        return Outcome(said=_promised(one, page), page=page_without_folders(page, one.places))

    return Tab(
        about="What evaluations and audits of this run have found. A report on a private run is for its owner alone.",
        controls={"report": Choice(label="Report", options=names(), value=names()[0], now=names)},
        does=does,
        shows=(Kind.PAGE,),
        button="Show",
        looks=True,
    )


def _called(name: str) -> str:
    return CALLED.get(name, name.removeprefix(BEGINS).replace("-", " "))


def _promised(one: Opened, page: str) -> str:
    """Return what a private run guarantees, as far as its report does not say so."""
    lines = promise_of(one).splitlines()
    return "\n".join(line for line in lines if html.escape(line, quote=False) not in page)


REPORTS = Ability(name="Reports", has=lambda one, place: True, tab=_tab)
