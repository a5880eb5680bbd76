"""Tab: two runs, or two checkpoints of one, side by side."""

import pathlib
from dataclasses import replace

from feller.app.reporter import Tell
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import draw, kinds_of, pictures, result_of
from feller.app.webui.tab import (
    Answers,
    Kind,
    PageContext,
    Result,
    Tab,
    TextTable,
    condition_controls,
    given,
    guidance,
)
from feller.app.webui.tabs.sample import count_control
from feller.app.webui.widgets import choice, seed
from feller.app.workflows.run_status import reported_of
from feller.core.run_folder import Run
from feller.data.modality import Dataset

FACTS = ("epsilon", "delta", "steps")
"""Numbers that tell of a fit, not of its samples, and are compared, too."""
AVERAGE, LAST, BASE = "average of its weights", "weights of the last step", "before tuning"


def _checkpoints(run: Run) -> dict[str, pathlib.Path | None]:
    """Return the weights of a run by name; they may be there later."""
    base = {BASE: run.base} if run.base.is_file() else {}
    return {AVERAGE: None, LAST: run.weights, **base}


def compare_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that draws two runs or checkpoints with one seed."""
    if not run.is_plain:
        return None
    others = [other for other in page.runs if other is not run and other.is_plain]
    alike = [run, *(other for other in others if type(other.modality) is type(run.modality))]
    options = {f"{one.name}, {name}": (one, file) for one in alike for name, file in _checkpoints(one.run).items()}
    names = tuple(options)
    other = next((name for name in names if options[name][0] is not run), names[1])

    def one_side(name: str, answers: Answers, tell: Tell) -> tuple[Dataset, Result]:
        which, file = options[name]
        about = which.about
        assert about is not None  # of plain runs
        known = {*about.frequencies, *about.modality.conditionable_leaves}
        conditions = {key: value for key, value in given(answers, about.modality).items() if key in known}
        weight = guidance(answers) if about.cond_dropout else 1.0
        drawn, written = draw(which, page, answers, tell, given=conditions, guidance=weight, weights=file)
        return drawn, result_of(which, drawn, written, caption=name)

    def compare(answers: Answers, tell: Tell) -> Result:
        asked = answers["first"], answers["second"]
        (first, left), (second, right) = (one_side(name, answers, tell) for name in asked)
        seen = pictures((first, second), page.room(), asked) if left.pictures else ()
        sides = [*zip(asked, (left, right), strict=True)]
        tables = tuple(replace(side.table, title=name) for name, side in sides if side.table is not None)
        words = "\n\n".join(f"=== {name}\n\n{side.words}" for name, side in sides if side.words)
        numbers = compare_reports(options[asked[0]][0], options[asked[1]][0])
        said = left.said.partition(";")[0]  # what is compared is not kept
        return Result(said=said, pictures=seen, sides=tables, words=words, numbers=numbers)

    shown = kinds_of(run)[0]
    return Tab(
        name="Compare",
        about="The same seed drawn by two runs, or by two checkpoints of one, side by side; of two runs that have been"
        " evaluated, the numbers of their reports, too. While a network is fitted, a running average of its weights is"
        " kept, which usually draws better than those of its last step; the commands draw with it.",
        controls={
            "first": choice("First", names),
            "second": choice("Second", (other, *(name for name in names if name != other))),
            "n": count_control(run),
            **condition_controls(run),
            "seed": seed(),
        },
        run=compare,
        shows=(Kind.SIDES if shown is Kind.TABLE else shown, Kind.NUMBERS),
        button="Compare",
        pictures=2,
    )


def compare_reports(first: LoadedRun, second: LoadedRun) -> TextTable | None:
    """Return the numbers of the reports of two runs beside each other, and what else they are seen beside.

    None of one run alone, or where neither has a report.

    Raises:
        InputError: If a report is damaged.
    """
    found = [reported_of(one.run) for one in (first, second)]
    sides = [one.numbers for one in found]
    if first is second or not any(sides):
        return None
    from feller.evaluation.metrics import explanation, main_metrics, metric, reference_value, replace_by_labels

    known, rows = {**sides[1], **sides[0]}, []
    for name in (*main_metrics(known), *(one for one in FACTS if one in known)):
        how, beside = metric(name, known), reference_value(name, known)
        shown = "" if beside is None or beside[1] is None else f"{how.text(beside[1])}, {beside[0]}"
        meaning = replace_by_labels(explanation(name, known), known)
        rows.append((how.label, *(how.text(side.get(name)) for side in sides), shown, meaning))
    columns = ("metric", first.name, second.name, "reference", "meaning")
    return TextTable(columns, tuple(rows), "Numbers of their reports")
