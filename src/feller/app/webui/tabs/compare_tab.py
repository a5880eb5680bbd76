"""Tab "Compare": two runs, or two checkpoints of the same run, side by side."""

import pathlib
from dataclasses import replace

from feller.app.reporter import Reporter
from feller.app.webui.condition_controls import condition_controls, conditions_from, guidance_from
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.run_state import read_state
from feller.app.webui.sample_views import draw, draw_picture_pair, kinds_of, metric_table, tab_result
from feller.app.webui.tab import Answers, OutputKind, PageContext, Tab, TabResult, TextTable
from feller.app.webui.tabs.sample_tab import count_control
from feller.app.webui.widgets import choice, seed
from feller.app.workflows.run_status import read_report_summary
from feller.core.run_folder import Run
from feller.data.modality import Dataset

FACTS = ("epsilon", "delta", "steps")
"""Names of the training facts that are compared in addition to the metrics."""
TUNING = ("reward", "reward_tilted", "tilted_share", "kl_target", "kl", "diversity", "validity")
"""Metrics of a fine-tuning."""
AVERAGE, LAST, BASE = "EMA weights", "last weights", "before fine-tuning"


def _checkpoints(run: Run) -> dict[str, pathlib.Path | None]:
    """Return the paths of a run's weight files by checkpoint name; the files may not exist yet."""
    base = {BASE: run.base} if run.base.is_file() else {}
    return {AVERAGE: None, LAST: run.weights, **base}


def compare_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that compares samples of two runs or checkpoints, drawn with the same seed.

    The result is None if `run` cannot be sampled. Only runs on the page with the same class of modality are offered.
    """
    if not run.is_sampled:
        return None
    others = [other for other in page.runs if other is not run and other.is_sampled]
    alike = [run, *(other for other in others if type(other.modality) is type(run.modality))]
    options = {f"{one.name}, {name}": (one, file) for one in alike for name, file in _checkpoints(one.run).items()}
    names = tuple(options)
    other = next((name for name in names if options[name][0] is not run), names[1])

    def one_side(name: str, answers: Answers, reporter: Reporter) -> tuple[Dataset, TabResult]:
        which, file = options[name]
        spec = which.spec
        assert spec is not None  # not a bridge
        names = {*spec.condition_names, *spec.modality.conditionable_leaves}
        conditions = {key: value for key, value in conditions_from(answers, spec.modality).items() if key in names}
        weight = guidance_from(answers) if spec.cond_dropout else 1.0
        samples, written = draw(which, page, answers, reporter, given=conditions, guidance=weight, weights=file)
        return samples, tab_result(which, samples, written, caption=name)

    def compare(answers: Answers, reporter: Reporter) -> TabResult:
        labels = answers["first"], answers["second"]
        (first, first_result), (second, right) = (one_side(name, answers, reporter) for name in labels)
        figures = draw_picture_pair((first, second), page.new_result_folder(), labels) if first_result.pictures else ()
        sides = [*zip(labels, (first_result, right), strict=True)]
        tables = tuple(replace(side.table, title=name) for name, side in sides if side.table is not None)
        words = "\n\n".join(f"=== {name}\n\n{side.words}" for name, side in sides if side.words)
        tuned = first_run if (first_run := options[labels[0]][0]) is options[labels[1]][0] else None
        numbers = compare_reports(first_run, options[labels[1]][0]) if tuned is None else tuning_table(tuned)
        message = first_result.message.partition(";")[0]  # there is no download file
        return TabResult(message=message, pictures=figures, sides=tables, words=words, numbers=numbers)

    shown = kinds_of(run)[0]
    return Tab(
        name="Compare",
        description="Samples of two runs, or of two checkpoints of one run, with the same seed; for evaluated runs also"
        " the metrics of their reports. EMA weights usually give better samples than the weights of the last step, and"
        " the commands use them.",
        controls={
            "first": choice("First", names),
            "second": choice("Second", (other, *(name for name in names if name != other))),
            "n": count_control(run),
            **condition_controls(run),
            "seed": seed(),
        },
        handler=compare,
        outputs=(OutputKind.SIDES if shown is OutputKind.TABLE else shown, OutputKind.NUMBERS),
        button="Compare",
        max_pictures=2,
    )


def tuning_table(run: LoadedRun) -> TextTable | None:
    """Return a table of the reward and the other fine-tuning metrics in the current report of a fine-tuned run.

    The result is None if the run was not fine-tuned, or has no current report.
    """
    numbers = read_state(run).report.numbers
    names = [name for name in TUNING if name in numbers]
    return metric_table(numbers, names, "Fine-tuning, from the report") if "reward" in numbers else None


def compare_reports(first: LoadedRun, second: LoadedRun) -> TextTable | None:
    """Return a table of the metrics in the reports of two runs, with reference values and meanings.

    The result is None if both runs are the same, or if neither run has a report.

    Raises:
        InputError: If a report is damaged.
    """
    summaries = [read_report_summary(one.run) for one in (first, second)]
    sides = [one.numbers for one in summaries]
    if first is second or not any(sides):
        return None
    from feller.evaluation.metrics import explanation, main_metrics, metric, reference_value, replace_by_labels

    all_numbers, rows = {**sides[1], **sides[0]}, []
    for name in (*main_metrics(all_numbers), *(one for one in FACTS if one in all_numbers)):
        info, beside = metric(name, all_numbers), reference_value(name, all_numbers)
        shown = "" if beside is None or beside[1] is None else f"{info.text(beside[1])}, {beside[0]}"
        meaning = replace_by_labels(explanation(name, all_numbers), all_numbers)
        rows.append((info.label, *(info.text(side.get(name)) for side in sides), shown, meaning))
    columns = ("metric", first.name, second.name, "reference", "meaning")
    return TextTable(columns, tuple(rows), "Metrics of the reports")
