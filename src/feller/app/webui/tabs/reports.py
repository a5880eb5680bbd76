"""Tab: the reports of a run, and its privacy guarantee in words."""

import html
import math
import pathlib
import re
import shlex

from feller.app.reporter import Tell
from feller.app.webui.controls import Choice
from feller.app.webui.loaded_run import Opened
from feller.app.webui.run_request import page_without_folders
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Tab
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.private.guarantee_text import sentence
from feller.app.workflows.run_config import asked_of
from feller.core.errors import InputError


def promise_of(one: Opened) -> str:
    """Return what is guaranteed, and what that means; nothing of a run without privacy.

    Raises:
        InputError: If the ledger is damaged.
    """
    ledger = None if one.is_bridge else ledger_of(one.run)
    if ledger is None or one.modality is None:
        return ""
    return f"{sentence(ledger, asked_of(one.run), one.modality)}\n{odds(ledger.epsilon(), ledger.delta)}"


def odds(epsilon: float, delta: float) -> str:
    """Say how often a guess is right at best: e^epsilon / (1 + e^epsilon) of an even chance, and delta beyond.

    Source: Kairouz, Oh and Viswanath 2015, "The composition theorem for differential privacy", arXiv 1311.0776: the
    best test between two data sets has that error.
    """
    right = min(1.0, (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon)))
    worth = "hardly better than a coin" if right < 0.6 else "better than a coin, never sure" if right < 0.99 else ""
    return (
        "In words: somebody who knows all other rows, and tosses a coin over whether one more row was learned from, is"
        f" right in 50 of 100 cases without the model, and in at most {math.ceil(1000 * right) / 10:g} of 100 with it"
        + (f": {worth}." if worth else ": that bound alone keeps nothing back, so look at the audit.")
    )


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
