"""Tabs that show the files of a run: "Reports", with an explanation of the privacy guarantee, and "Training"."""

import html
import math
import pathlib
import re
import tempfile

from feller.app.reporter import Reporter
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.run_request import page_without_folders
from feller.app.webui.run_state import REFRESH_SECONDS, Phase, read_state
from feller.app.webui.sample_views import copy_preview
from feller.app.webui.tab import Answers, OutputKind, PageContext, Tab, TabResult
from feller.app.webui.widgets import choice
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.private.guarantee_text import sentence
from feller.app.workflows.run_config import read_fit_record
from feller.core.errors import InputError
from feller.training.callbacks import read_metrics


def guarantee_of(run: LoadedRun) -> str:
    """Return the privacy guarantee of a run and its explanation; empty for a run without differential privacy.

    Raises:
        InputError: If the ledger is damaged.
    """
    ledger = None if run.is_bridge else ledger_of(run.run)
    if ledger is None or run.modality is None:
        return ""
    return (
        f"{sentence(ledger, read_fit_record(run.run), run.modality)}\n{guess_odds_text(ledger.epsilon(), ledger.delta)}"
    )


def guess_odds_text(epsilon: float, delta: float) -> str:
    """Return a sentence that explains (epsilon, delta) by the maximum accuracy of membership inference.

    The attacker's prior probability that the row is in the training set is 1/2.

    The accuracy is at most (e^epsilon + delta) / (1 + e^epsilon). Source: Kairouz, Oh and Viswanath 2015, "The
    composition theorem for differential privacy", arXiv 1311.0776.
    """
    right = min(1.0, (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon)))
    worth = "close to guessing" if right < 0.6 else "better than guessing, but uncertain" if right < 0.99 else ""
    return (
        "Explanation: an attacker who knows all other rows, and gives even odds to whether one more row was in the"
        " training set, is right in 50 of 100 cases without the model, and in at most"
        f" {math.ceil(1000 * right) / 10:g} of 100 with it"
        + (f": {worth}." if worth else ": this bound alone is no protection, so see the audit.")
    )


REPORT = re.compile(r"report(-.*)?\.html|audit(-.*)?\.html")
MAX_BYTES = 20 * 2**20
"""Maximum size in bytes of a report that the page shows."""
FIRST = "report"
"""File stem of the evaluation report, and prefix of the file stems of all other reports."""
NONE = "no report yet"
OLDER = "This report was written before the present state of the run, which is stated above the tabs."
FRAME_STYLE = "<style>body{padding:1rem 1.25rem}</style>"
"""Style of reports in the frame of the page, which has margins of its own."""


def reports(run: LoadedRun) -> tuple[str, ...]:
    """Return the file stems of the reports in a run folder, the evaluation report first; symbolic links are ignored."""
    there = run.run.path.iterdir() if run.exists else ()
    names = [p.stem for p in there if REPORT.fullmatch(p.name) and p.is_file() and not p.is_symlink()]
    return tuple(sorted(names, key=lambda name: (name != FIRST, name)))


def reports_tab(run: LoadedRun, page: PageContext) -> Tab:
    """Return the tab that shows the reports of a run."""

    def names() -> tuple[str, ...]:
        return tuple(map(_title, reports(run))) or (NONE,)

    def show(answers: Answers, reporter: Reporter) -> TabResult:
        name = next((name for name in reports(run) if _title(name) == answers["report"]), None)
        if name is None and answers["report"] == NONE:
            name = next(iter(reports(run)), None)  # created since the tab was opened
        state = read_state(run)
        if name is None and answers["report"] == NONE:
            return TabResult(message=state.reporting)
        if name is None:
            raise InputError("this report does not exist", remedy="Choose another one")
        path = run.run.path / f"{name}.html"
        if path.stat().st_size > MAX_BYTES:
            raise InputError("is too large for this page", remedy="Open the file in the run folder", file=path.name)
        text = path.read_text(encoding="utf-8", errors="replace")
        older = [OLDER] if name == FIRST and state.phase is not Phase.REPORTED else []
        guarantee = [line for line in guarantee_of(run).splitlines() if html.escape(line, quote=False) not in text]
        framed = page_without_folders(text).replace("</head>", f"{FRAME_STYLE}</head>", 1)
        return TabResult(message="\n".join([*older, *guarantee]), page=framed, is_finished=True)

    return Tab(
        name="Reports",
        description="Reports of evaluations and audits of this run. Reports of a private run are for the owner of the"
        " data only.",
        controls={"report": choice("Report", names(), allows_new=True)},
        handler=show,
        outputs=(OutputKind.PAGE,),
        button="Show",
        dynamic_choices=("report", names),
        refresh_seconds=REFRESH_SECONDS,
        is_read_only=True,
    )


def _title(name: str) -> str:
    return "evaluation" if name == FIRST else name.removeprefix(f"{FIRST}-").replace("-", " ")


def follow_tab(run: LoadedRun, page: PageContext) -> Tab:
    """Return the tab that shows the loss curve and the preview of training."""
    room = pathlib.Path(tempfile.mkdtemp(prefix="preview-", dir=page.folder))

    def look(answers: Answers, reporter: Reporter) -> TabResult:
        from feller.evaluation.report.loss_curve import loss_svg  # takes long to load

        is_final = read_state(run).is_final
        return TabResult(
            message="" if is_final else "This tab refreshes every few seconds.",
            drawing=loss_svg([row for row in read_metrics(run.run.metrics) if "loss" in row]),
            pictures=copy_preview(run, room),
            is_finished=is_final,
        )

    return Tab(
        name="Training",
        description="Loss curve of training, and a preview of samples.",
        controls={},
        handler=look,
        outputs=(OutputKind.DRAWING, OutputKind.PICTURES),
        button="Refresh",
        refresh_seconds=REFRESH_SECONDS,
        is_read_only=True,
    )
