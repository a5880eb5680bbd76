"""Two runs, or two checkpoints of one, side by side."""

import pathlib
from dataclasses import replace
from typing import cast

from feller.app.reporter import Tell
from feller.app.webui.controls import Choice
from feller.app.webui.loaded_run import Opened
from feller.app.webui.sample_views import drawn_of, kinds_of, outcome, pictures
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Rows, Shown, Tab, given_of, guidance_of, guides
from feller.app.webui.tabs.sample import many, seeded
from feller.app.workflows.run_status import reported_of
from feller.core.run_folder import Run
from feller.data.modality import Dataset, Modality

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

    def drawn(name: str, answers: Answers, tell: Tell) -> tuple[Dataset, Outcome]:
        which, file = there[name]
        modality = cast(Modality, which.modality)
        given = {key: value for key, value in given_of(answers, modality).items() if _knows(which, key)}
        guidance = guidance_of(answers) if which.about is not None and which.about.drop else 1.0
        found, written = drawn_of(which, place, answers, tell, given=given, guidance=guidance, weights=file)
        return found, outcome(which, found, written, caption=name)

    def does(answers: Answers, tell: Tell) -> Outcome:
        asked = answers["first"], answers["second"]
        found = [drawn(name, answers, tell) for name in asked]
        sides = [(name, side) for name, (_, side) in zip(asked, found, strict=True)]
        seen: tuple[Shown, ...] = ()
        if any(side.pictures for _, side in sides):
            (first, _), (second, _) = found
            seen = pictures((first, second), place.scratch.room(), asked)
        tables = tuple(replace(side.table, title=name) for name, side in sides if side.table is not None)
        said = next((side.said.partition(";")[0] for _, side in sides), "")  # what is compared is not kept
        words = "\n\n".join(f"=== {name}\n\n{side.words}" for name, side in sides if side.words)
        runs = tuple(there[answers[side]][0] for side in ("first", "second"))
        return Outcome(said=said, pictures=seen, sides=tables, words=words, numbers=reported(*runs))

    return Tab(
        about="The same seed drawn by two runs, or by two checkpoints of one, side by side; of two runs that have been"
        " evaluated, the numbers of their reports, too. While a network is fitted, a running average of its weights is"
        " kept, which usually draws better than those of its last step; the commands draw with it.",
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
    found = [reported_of(one.run) for one in (first, second)]
    sides = [one.numbers for one in found]
    if first is second or not any(sides):
        return None
    from feller.evaluation.metrics import explanation, main_metrics, metric, named_by_label, reference

    known, rows = {**sides[1], **sides[0]}, []
    for name in (*main_metrics(known), *(one for one in FACTS if one in known)):
        how, beside = metric(name, known), reference(name, known)
        shown = "" if beside is None or beside[1] is None else f"{how.text(beside[1])}, {beside[0]}"
        meaning = named_by_label(explanation(name, known), known)
        rows.append((how.label, *(how.text(side.get(name)) for side in sides), shown, meaning))
    columns = ("metric", first.name, second.name, "reference", "meaning")
    return Rows(columns, tuple(rows), "Numbers of their reports")


COMPARE = Ability(name="Compare", has=lambda one, place: one.is_plain, tab=_tab)
