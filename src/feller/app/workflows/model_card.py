"""What a model's README says to whoever finds it."""

import re

from feller import __version__
from feller.app.workflows.fine_tuned_run import tuned_of
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.reported import Reported
from feller.app.workflows.run_config import Asked, example_of
from feller.core.run_folder import Run
from feller.evaluation.report.html import legible
from feller.evaluation.report.wording import is_number
from feller.models.spec import Description
from feller.privacy.accounting.strength import strength

PLAIN = ("steps", "seconds", "report", "format", "version", "run")
"""Entries of a report that say nothing of how good a model is."""


def card(run: Run, about: Description, asked: Asked, report: Reported, citation: str) -> str:
    """Return the README: what the model learned from, how good it is, how it is loaded, what to cite.

    Whatever comes from the run stands there as text, none of it as markup.

    Args:
        run: Holds the model; it may be a stranger's.
        about: What it is.
        asked: What was asked of the fit.
        report: What its report says.
        citation: BibTeX.
    """
    example, private = example_of(asked), asked.private is not None
    data = asked.data if example else asked.data.replace("\\", "/").rstrip("/").rpartition("/")[2]
    known = example.about if example else None
    licence = f"{known.licence}. Source: {known.source}." if known else "not known to feller; add it here."
    tuned = tuned_of(run)
    conditions = "".join(
        f"\n- {_quoted(name)}: {len(shares)} values,"
        f" {', '.join(map(_plain, about.modality.conditions.get(name, ())[:10]))}"
        f"{' ...' if len(shares) > 10 else ''}"
        for name, shares in about.frequencies.items()
    )
    sections = [
        "---\nlibrary_name: feller\ntags:\n- generative\n- flow-matching\n---",
        f"# {_plain(f'{asked.recipe} of {data}')}\n\nA generative model of {about.modality.called}"
        f" (`{type(about.modality).__name__}`, network `{type(about.architecture).__name__}`), made with feller"
        f" {__version__}.",
        f"## Data\n\nLearned from: {_quoted(data)}{f', {known.summary}' if known else ''}.\n\nLicence of the data:"
        f" {licence}" + (f"\n\nTuned to: {_quoted(' and '.join(tuned.rewards))}." if tuned else ""),
        f"## How good it is\n\n{_promise(run) if private else _measured(report)}",
        "## Use\n\n```sh\nfeller sample THIS_FOLDER -n 100 --out samples.npz\n```\n\n```python\nimport feller\n\n"
        'model = feller.load_model(feller.open_run("THIS_FOLDER"))\nsamples = model.sample(100)\n```'
        + (f"\n\nWhat can be given:{conditions}" if conditions else ""),
        f"## Citation\n\n```bibtex\n{citation}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _line(text: str) -> str:
    """Return text in one line that any file can hold."""
    return legible(" ".join(text.split()))


def _quoted(text: str) -> str:
    """Return text as code."""
    return f"`{_line(text).replace('`', chr(39)) or ' '}`"


def _cell(text: str) -> str:
    """Return text as code in a table, where a bar would end its cell."""
    return _quoted(text).replace("|", r"\|")


def _plain(text: str) -> str:
    """Return text of which Markdown takes nothing for its own."""
    marked = re.sub(r"[\\`*_\[\]<>|~&#$]|:(?=//)|(?<=www)\.", r"\\\g<0>", _line(text))
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", marked)  # what begins a list or ends a heading


def _measured(report: Reported) -> str:
    """Return the verdict of a report, and a table of its numbers."""
    numbers = {name: value for name, value in report.numbers.items() if is_number(value)}
    rows = [
        f"| {_cell(name)} | {value:.4g} | {_plain(report.explanations.get(name, ''))} |"
        for name, value in numbers.items()
        if name not in PLAIN
    ]
    if not rows:
        return "Not measured; `feller evaluate` does it."
    trained = " and ".join(f"{numbers[name]:,.0f} {name}" for name in ("steps", "seconds") if name in numbers)
    reference = report.numbers.get("compared_with")
    beside = f" Compared with: {_plain(str(reference))}." if reference else ""
    told = f"Trained for {trained}.{beside}" if trained else beside.strip()
    table = "\n".join(["| measure | value | meaning |", "|---|---|---|", *rows])
    return "\n\n".join(filter(None, [_plain(report.verdict), table, told]))


def _promise(run: Run) -> str:
    """Say what is promised to each row; what compares samples with rows is not part of the promise and stays away."""
    ledger = ledger_of(run)
    if ledger is None:
        return "Private; what was spent is not known."
    spent, worth = "; ".join(map(_plain, ledger.lines())), strength(ledger.epsilon())
    said = f"by an epsilon that {worth}" if worth else "model and samples may be given away"
    return f"Private: {said}. {spent}. Figures that compare samples with rows are not told."
