"""Tabs "Sample" and "Guidance" of the web page, and the samples that the page shows before a button is pressed.

"Sample" draws samples, and "Guidance" compares samples at several guidance scales.
"""

import base64
import binascii
import contextlib
import pathlib
import re
from typing import Any

from feller.app.modalities.registration import registration_of
from feller.app.reporter import SILENT, Reporter
from feller.app.webui.condition_controls import GUIDANCE_CONTROL, condition_controls, conditions_from, sample_controls
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.run_state import REPORT_FILE, Phase, holds_fit, read_state
from feller.app.webui.sample_views import copy_preview, draw, kinds_of, read_rows, save_picture, tab_result
from feller.app.webui.tab import Answers, CaptionedImage, OutputKind, PageContext, Tab, TabResult, TextTable
from feller.app.webui.widgets import check_picture, choice, number, seed, text_field
from feller.core.errors import UsageError
from feller.core.pytree import concatenate
from feller.core.run_folder import Run
from feller.data.files.sample_folder import OVERVIEW_FILE, TABLE_FILE
from feller.data.modality import Dataset
from feller.sampling.sampler_config import SOLVERS

OWN = "default of the model"
MAX_NFE = 1000
FIRST_N, FIRST_NFE = 16, 16
"""Maximum number of samples that the page draws without a request, and maximum number of network evaluations for each.
The first limit does not apply to cheap samples; see `CHEAP_N`."""
CHEAP_N = 1000
"""Samples of a modality, such as points, count as cheap if visitors can request at least this many at a time."""
MAX_REPORT_BYTES = 20 * 2**20
REPORT_PICTURE = re.compile(
    r'<figcaption>Samples</figcaption>\s*<img src="data:image/png;base64,([A-Za-z0-9+/=]+)"', re.ASCII
)
"""Regular expression that finds the picture of the samples in the HTML of a report."""
DRAW_DURING_FIT = "While a fit runs, samples are drawn only on request."
MAX_NEIGHBOURS = 100
"""Maximum number of run folders, next to that of a run, that are searched for a running fit."""


def count_control(run: LoadedRun) -> Any:
    """Return the slider for the number of samples."""
    return number("Number of samples", run.display.n, 1, run.display.max_n)


def sample_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that draws samples; None if the run cannot be sampled."""
    if not run.is_sampled or run.spec is None:
        return None
    controls = {"n": count_control(run), **sample_controls(run)}
    if run.in_time:
        controls["nfe"] = nfe_control(run, MAX_NFE)
    if run.has_solvers:
        names = (OWN, *(name for name in SOLVERS if name != "dopri5"))
        controls["solver"] = choice("Solver", names, uses={OWN: run.spec.sampling.solver, **SOLVERS})

    def draw_samples(answers: Answers, reporter: Reporter) -> TabResult:
        solver = answers.get("solver", OWN)
        solver = None if solver == OWN else solver
        return tab_result(run, *draw(run, page, answers, reporter, nfe=answers.get("nfe"), solver=solver))

    return Tab(
        name="Sample",
        description="Draw new samples from the model.",
        controls={**controls, "seed": seed()},
        handler=draw_samples,
        outputs=kinds_of(run),
        button="Draw",
        first_view=lambda: first_view(run, page),
    )


def nfe_control(run: LoadedRun, default: int) -> Any:
    """Return the slider for the number of network evaluations per sample.

    Its initial value is `default`, or the number in the run's sampling settings if that is smaller.
    """
    assert run.spec is not None
    hint = "Per sample; more is slower and more accurate."
    return number("Network evaluations", min(run.spec.sampling.nfe, default), 2, MAX_NFE, hint=hint)


def first_view(run: LoadedRun, page: PageContext) -> TabResult:
    """Return what the tab Sample shows when it is opened: existing samples, or else a few newly drawn ones.

    During training, these are the preview samples of the last checkpoint. Otherwise they are the first available of:
    samples in the run folder, samples in the current report, newly drawn samples, and an old preview.
    """
    state, room = read_state(run), page.new_result_folder()
    preview = TabResult(pictures=copy_preview(run, room), message="Samples at the last checkpoint of training.")
    if state.is_training:
        return preview if preview.pictures else TabResult(message=f"{DRAW_DURING_FIT} {state.weights}".strip())
    shown = _saved_samples(run, room) or (_report_picture(run, room) if state.phase is Phase.REPORTED else None)
    if shown is None:
        why = why_not_drawn(run, page)
        shown = TabResult(message=f"{why}; press Draw for samples.") if why else drawn_view(run, page)
    return preview if preview.pictures and not (shown.pictures or shown.table or shown.words) else shown


def why_not_drawn(run: LoadedRun, page: PageContext) -> str:
    """Return why the page draws no samples of a run by itself; empty if it may."""
    if not run.run.ema_weights.is_file():
        return "No weights are saved yet"
    if run.run.ledger.is_file():
        return "From a private model, samples are drawn only on request"
    folder = run.run.path.resolve().parent
    neighbours = [Run(lock.parent) for lock, _ in zip(folder.glob("*/lock"), range(MAX_NEIGHBOURS), strict=False)]
    if any(map(holds_fit, (*(one.run for one in page.runs), *neighbours))):
        return DRAW_DURING_FIT.removesuffix(".")
    return ""


def drawn_view(run: LoadedRun, page: PageContext) -> TabResult:
    """Draw a few samples with few network evaluations, and return the outputs that show them.

    The result is kept and shown to all visitors until the weights of the run change.
    """
    with page.drawing:
        made = run.run.ema_weights.stat().st_mtime_ns
        before = page.first_views.get(run.run.path)
        if before is not None and before[0] == made and all(file.is_file() for file in before[1].files):
            return before[1]
        assert run.spec is not None
        n = run.display.n if run.display.max_n >= CHEAP_N else min(run.display.n, FIRST_N)
        nfe = min(run.spec.sampling.nfe, FIRST_NFE) if run.in_time else None
        result = tab_result(run, *draw(run, page, {"n": n, "seed": 0}, SILENT, nfe=nfe))
        few = f" with only {nfe} network evaluations" if nfe is not None and nfe < run.spec.sampling.nfe else ""
        said = f"{n:,} sample{'' if n == 1 else 's'}{few}, drawn on arrival. Press Draw for samples as set."
        page.first_views[run.run.path] = (
            made,
            TabResult(
                message=said, pictures=result.pictures, table=result.table, words=result.words, files=result.files
            ),
        )
        return page.first_views[run.run.path][1]


def _saved_samples(run: LoadedRun, room: pathlib.Path) -> TabResult | None:
    """Return the samples in the run folder, from its overview or table; None without them."""
    folder, form = run.run.samples, run.display.form
    file = folder / (TABLE_FILE if form == "table" else OVERVIEW_FILE)
    if form == "words" or folder.is_symlink() or file.is_symlink() or not file.is_file():
        return None
    message = "Written to the run folder by `feller sample`. Press Draw for new samples."
    if form == "table":
        return TabResult(message=message, table=read_rows(file))
    shown = _copy_picture(file.read_bytes(), room, "Samples in the run folder")
    return None if shown is None else TabResult(message=message, pictures=(shown,))


def _report_picture(run: LoadedRun, room: pathlib.Path) -> TabResult | None:
    """Return the picture of samples in the report of a run; None without one."""
    file = run.run.path / REPORT_FILE
    if run.display.form != "pictures" or file.is_symlink() or file.stat().st_size > MAX_REPORT_BYTES:
        return None
    found = REPORT_PICTURE.search(file.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        return None
    with contextlib.suppress(binascii.Error):
        shown = _copy_picture(base64.b64decode(found[1], validate=True), room, "Samples of the report")
        return None if shown is None else TabResult(message="Press Draw for new samples.", pictures=(shown,))
    return None


def _copy_picture(content: bytes, room: pathlib.Path, caption: str) -> CaptionedImage | None:
    """Write a picture to a result folder, and return it; None if it is not a readable image."""
    path = room / "first.png"
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        check_picture(str(path))
        return CaptionedImage(caption, path)
    return None


SCALES = "0, 1, 2, 4"
MAX_SCALES, MAX_SCALE = 6, 100.0
"""Maximum number of guidance scales side by side, and the largest one."""
GUIDANCE_N, GUIDANCE_NFE = 16, 32
"""Default number of samples per guidance scale, and default network evaluations."""


def guidance_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that shows samples at several guidance scales; None if the model has no guidance."""
    conditions = condition_controls(run)
    if not run.is_sampled or conditions.pop(GUIDANCE_CONTROL, None) is None or run.display.form == "table":
        return None
    most = GUIDANCE_N if run.display.max_n < CHEAP_N else run.display.n
    controls = {
        "scales": text_field(
            "Guidance scales",
            value=SCALES,
            hint=f"Up to {MAX_SCALES} numbers. 0 ignores the condition, 1 is no guidance.",
        ),
        "n": number("Number of samples per scale", min(run.display.n, most), 1, run.display.max_n // 4),
        **conditions,
    }
    if run.in_time:
        controls["nfe"] = nfe_control(run, GUIDANCE_NFE)

    def compare(answers: Answers, reporter: Reporter) -> TabResult:
        assert run.modality is not None
        scales, sides = parse_scales(answers["scales"]), list[Dataset]()
        given, room = conditions_from(answers, run.modality), page.new_result_folder()
        for scale in scales:
            reporter.start(f"guidance {scale:g}")
            samples, _ = draw(run, page, answers, reporter, given=given, guidance=scale, nfe=answers.get("nfe"))
            sides.append(samples)
        names = [f"guidance {scale:g}" for scale in scales]
        numbers = _class_accuracy(run, sides, names)
        if run.display.form == "words":
            words = [tab_result(run, side, room).words for side in sides]
            return TabResult(words="\n\n".join(f"=== {name}\n\n{one}" for name, one in zip(names, words, strict=True)))
        shown = [
            save_picture(picture, room, f"Scale {scale:g}")
            for scale, picture in zip(scales, _at_one_scale(sides), strict=True)
        ]
        return TabResult(pictures=tuple(shown), numbers=numbers)

    return Tab(
        name="Guidance",
        description="Samples at several guidance scales side by side, from the same source noise and conditions.",
        controls={**controls, "seed": seed()},
        handler=compare,
        outputs=(kinds_of(run)[0], OutputKind.NUMBERS),
        button="Draw the row",
        max_pictures=MAX_SCALES,
    )


def parse_scales(words: str) -> list[float]:
    """Return the guidance scales in a text, separated by commas or spaces.

    Raises:
        UsageError: If a part is not a number from 0 to MAX_SCALE, or there are none or too many.
    """
    parts = words.replace(",", " ").split()
    try:
        scales = [float(part) for part in parts]
    except ValueError:
        scales = []
    if not 1 <= len(scales) <= MAX_SCALES or not all(0 <= scale <= MAX_SCALE for scale in scales):
        expected = f"1 to {MAX_SCALES} guidance scales from 0 to {MAX_SCALE:g}"
        raise UsageError(expected, repr(words[:40]), f"Use {SCALES}", argument="scales")
    return scales


def _at_one_scale(sides: list[Dataset]) -> list[Any]:
    """Draw each data set as an image, with the same axes for all."""
    first = sides[0]
    given = {name: concatenate(*(side.given[name] for side in sides)) for name in first.given}
    whole = Dataset(concatenate(*(side.values for side in sides)), given, first.modality)
    return [registration_of(first.modality).beside(side, whole, None)[0] for side in sides]


def _class_accuracy(run: LoadedRun, sides: list[Dataset], names: list[str]) -> TextTable | None:
    """Return a table of the fraction of samples that the run's judge network assigns to their class, for each data set.

    None without a judge network.
    """
    if not run.run.judge.is_file():
        return None
    from feller.evaluation.image_metrics import class_accuracy
    from feller.evaluation.judge import load_judge
    from feller.evaluation.metrics import METRICS

    judge, rows = load_judge(run.run.judge), []
    for name, side in zip(names, sides, strict=True):
        accuracy, metric = class_accuracy(side.modality.for_metrics(side), judge), METRICS["accuracy"]
        if accuracy is None:
            return None
        reference = "" if judge.accuracy is None else f"{metric.text(judge.accuracy)}, {metric.reference_label}"
        rows.append((f"{metric.label}, {name}", metric.text(accuracy), reference, metric.help))
    return TextTable(("metric", "value", "reference", "meaning"), tuple(rows))
