"""Two runs, or two checkpoints of one, side by side."""

import pathlib
from dataclasses import replace
from typing import Any, cast

from feller.data.modality import Modality
from feller.journeys.tell import Tell
from feller.record import read_json
from feller.run import Run
from feller.studio.controls import Choice
from feller.studio.drawing import drawn_of
from feller.studio.guide import given_of, guidance_of, guides
from feller.studio.made import kinds_of, outcome
from feller.studio.opened import Opened
from feller.studio.outcome import Outcome, Rows
from feller.studio.tab import Ability, Answers, Kind, Place, Tab
from feller.studio.tabs.sample import many, seeded

FACTS = ("epsilon", "delta", "steps")
"""Numbers that tell of a fit, not of its samples, and are compared, too."""
AVERAGE, LAST, BASE = "average of its weights", "weights of the last step", "before tuning"


def _checkpoints(run: Run) -> dict[str, pathlib.Path | None]:
    """Return the weights of a run by name; they may be there later."""
    base = {BASE: run.base} if run.base.is_file() else {}
    return {AVERAGE: None, LAST: run.weights, **base}


def _alike(one: Opened, place: Place) -> dict[str, tuple[Opened, pathlib.Path | None]]:
    """Return what may be compared, by name: runs of the same kind of data, this one first."""
    others = [other for other in place.runs if other is not one and other.is_plain]
    others = [other for other in others if type(other.modality) is type(one.modality)]
    return {
        f"{other.name}, {name}": (other, file)
        for other in (one, *others)
        for name, file in _checkpoints(other.run).items()
    }


def _tab(one: Opened, place: Place) -> Tab:
    there = _alike(one, place)
    names = tuple(there)
    other = next((name for name in names if there[name][0] is not one), names[1])

    def drawn(name: str, answers: Answers, tell: Tell) -> Outcome:
        which, file = there[name]
        modality = cast(Modality, which.modality)
        given = {key: value for key, value in given_of(answers, modality).items() if _knows(which, key)}
        guidance = guidance_of(answers) if which.about is not None and which.about.drop else 1.0
        found, written = drawn_of(which, place, answers, tell, given=given, guidance=guidance, weights=file)
        return outcome(which, found, written, caption=name)

    def does(answers: Answers, tell: Tell) -> Outcome:
        sides = [(answers[side], drawn(answers[side], answers, tell)) for side in ("first", "second")]
        pictures = tuple(picture for _, side in sides for picture in side.pictures)
        tables = tuple(replace(side.table, title=name) for name, side in sides if side.table is not None)
        said = next((side.said.partition(";")[0] for _, side in sides), "")  # what is compared is not kept
        words = "\n\n".join(f"=== {name}\n\n{side.words}" for name, side in sides if side.words)
        runs = tuple(there[answers[side]][0] for side in ("first", "second"))
        return Outcome(said=said, pictures=pictures, sides=tables, words=words, numbers=reported(*runs))

    return Tab(
        about="The same seed drawn by two runs, or by two checkpoints of one, side by side; of two runs that have been"
        " evaluated, the numbers of their reports, too.",
        controls={
            "first": Choice(label="First", options=names, value=names[0]),
            "second": Choice(label="Second", options=names, value=other),
            "n": many(one, place.limits),
            **guides(one),
            "seed": seeded(),
        },
        does=does,
        shows=(_shown(one), Kind.NUMBERS),
        button="Compare",
        pictures=2,
    )


def _knows(one: Opened, name: str) -> bool:
    about = one.about
    return about is not None and (name in about.frequencies or name in about.modality.leaves)


def _shown(one: Opened) -> Kind:
    """Return how two sides of samples are shown."""
    return next({Kind.TABLE: Kind.SIDES}.get(kind, kind) for kind in kinds_of(one))


def reported(first: Opened, second: Opened) -> Rows | None:
    """Return the numbers of the reports of two runs beside each other, and what else they are seen beside.

    None of one run alone, or where neither has a report.

    Raises:
        InputError: If a report is damaged.
    """
    sides = [_numbers(one) for one in (first, second)]
    if first is second or not any(sides):
        return None
    from feller.report.measures import leading, measure, real  # takes long to load

    known = {**sides[1], **sides[0]}
    rows = []
    for name in (*leading(known), *(one for one in FACTS if one in known)):
        how = measure(name, known)
        beside = known.get(how.floor) if how.level is None else how.level
        told = "" if beside is None else f"{how.text(beside)}, {real(how, known)}"
        rows.append((how.label, *(how.text(side.get(name)) for side in sides), told))
    return Rows(("number", first.name, second.name, "beside"), tuple(rows), "Numbers of their reports")


def _numbers(one: Opened) -> dict[str, Any]:
    """Return the numbers of the report of a run, by name; none where it has no report."""
    file = one.run.path / "report.json"
    return dict(read_json(file).get("numbers", {})) if file.is_file() and not file.is_symlink() else {}


COMPARE = Ability(name="Compare", has=lambda one, place: one.is_plain, tab=_tab)
