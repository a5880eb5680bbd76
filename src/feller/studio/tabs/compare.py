"""Two runs, or two checkpoints of one, side by side."""

import pathlib
from typing import cast

from feller.data.modality import Modality
from feller.journeys.tell import Tell
from feller.run import Run
from feller.studio.controls import Choice
from feller.studio.drawing import drawn_of
from feller.studio.guide import given_of, guidance_of, guides
from feller.studio.made import kinds_of, outcome
from feller.studio.opened import Opened
from feller.studio.outcome import Outcome
from feller.studio.tab import Ability, Answers, Kind, Place, Tab
from feller.studio.tabs.sample import many, seeded

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
        if Kind.PICTURES in kinds_of(one):
            return Outcome(pictures=tuple(picture for _, side in sides for picture in side.pictures))
        return Outcome(words="\n\n".join(f"=== {name}\n\n{_told(side)}" for name, side in sides))

    return Tab(
        about="The same seed drawn by two runs, or by two checkpoints of one, side by side.",
        controls={
            "first": Choice(label="First", options=names, value=names[0]),
            "second": Choice(label="Second", options=names, value=other),
            "n": many(one, place.limits),
            **guides(one),
            "seed": seeded(),
        },
        does=does,
        shows=(Kind.PICTURES,) if Kind.PICTURES in kinds_of(one) else (Kind.WORDS,),
        button="Compare",
        pictures=2,
    )


def _knows(one: Opened, name: str) -> bool:
    about = one.about
    return about is not None and (name in about.frequencies or name in about.modality.leaves)


def _told(side: Outcome) -> str:
    """Write texts or rows as plain text."""
    if side.table is None:
        return side.words
    return "\n".join(", ".join(row) for row in (side.table.columns, *side.table.cells))


COMPARE = Ability(name="Compare", has=lambda one, place: one.is_plain, tab=_tab)
