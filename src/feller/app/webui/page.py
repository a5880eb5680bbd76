"""The page: all tabs put together, and a warm-up before the first visitor."""

import contextlib
import html
import importlib
from collections.abc import Callable
from typing import Any

from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.run_request import RequestError, RequestReporter, Running, run_tab
from feller.app.webui.sample_views import place_in
from feller.app.webui.tab import Kind, PageContext, Result, Tab
from feller.app.webui.tabs.bridging import push_tab
from feller.app.webui.tabs.compare import compare_tab
from feller.app.webui.tabs.documents import ask_tab, document_fill_tab, draw_tab
from feller.app.webui.tabs.fill import picture_fill_tab, row_fill_tab, text_fill_tab
from feller.app.webui.tabs.follow import follow_tab
from feller.app.webui.tabs.forming import watch_tab
from feller.app.webui.tabs.reports import reports_tab
from feller.app.webui.tabs.restoring import restore_tab
from feller.app.webui.tabs.sample import sample_tab
from feller.app.webui.tabs.speaking import denoise_tab, edit_tab, restyle_tab, say_tab
from feller.app.webui.tabs.steering import steer_tab
from feller.app.webui.widgets import MAX_SEED, gradio, outputs, said, updates
from feller.app.workflows.sample import sample

TABS: tuple[Callable[[LoadedRun, PageContext], Tab | None], ...] = (
    *(sample_tab, push_tab, say_tab, draw_tab, ask_tab, edit_tab, denoise_tab, restyle_tab),
    *(picture_fill_tab, text_fill_tab, row_fill_tab, document_fill_tab, restore_tab),
    *(watch_tab, steer_tab, compare_tab, reports_tab, follow_tab),
)
"""Each returns None for a run that cannot do it; none may read weights, which may not be there yet."""
MAX_WAITING = 100
"""Requests; more are told to come again."""
WORK = {"concurrency_id": "work", "concurrency_limit": 1}
LOOK = {"concurrency_id": "look", "concurrency_limit": 4}
"""Two queues: what computes goes one after the other, and what only looks does not wait for it."""
ANOTHER = f"() => Math.floor(Math.random() * {min(MAX_SEED, 1_000_000)})"
"""Another seed, which the page draws by itself, shows, and so can repeat."""
FORGET = """said => said.includes('class="wrong"') ? "" : said"""
"""A complaint is gone as soon as something else is set."""
WIDE = (Kind.SIDES, Kind.NUMBERS, Kind.PAGE)
"""Kinds that take the width of the page, below what is set."""


def tabs_of(run: LoadedRun, page: PageContext) -> list[Tab]:
    """Return what a run can do."""
    return [tab for make in TABS if (tab := make(run, page)) is not None]


def build(page: PageContext) -> Any:
    """Return the page of some runs, as Gradio's blocks."""
    gr, runs = gradio(), page.runs
    about = [f"<p>{html.escape(run.summary)}</p>" for run in runs]
    title, below = (html.escape(runs[0].name), about[0]) if len(runs) == 1 else ("feller", f"<p>{len(runs)} runs</p>")
    with gr.Blocks(title="feller", analytics_enabled=False, delete_cache=(600, 3600), fill_width=False) as blocks:
        gr.HTML(f'<header class="top"><h1>{title}</h1>{below}</header>')
        if len(runs) == 1:
            _add_run(gr, runs[0], page, "")
        else:
            with gr.Tabs(overflow_behavior="wrap"):
                for i, run in enumerate(runs):
                    with gr.Tab(run.name):
                        gr.HTML(about[i])
                        _add_run(gr, run, page, f"{i}_")
    blocks.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    return blocks


def _add_run(gr: Any, run: LoadedRun, page: PageContext, prefix: str) -> None:
    """Add the tabs of a run."""
    with gr.Tabs(overflow_behavior="wrap"):
        for tab in tabs_of(run, page):
            with gr.Tab(tab.name) as shown:
                look = _add_tab(gr, tab, f"{prefix}{tab.name.lower().replace(' ', '_')}", run, page)
                if look is not None:
                    shown.select(**look, show_progress="hidden", api_name=False)


def _add_tab(gr: Any, tab: Tab, name: str, run: LoadedRun, page: PageContext) -> dict[str, Any] | None:
    """Add one tab, what is set beside what comes out; return what is done when somebody opens it."""
    controls = tab.controls
    gr.HTML(f'<p class="about">{html.escape(tab.about)}</p>')
    with gr.Row(equal_height=False, elem_classes="tab" if controls else "tab plain"):
        with gr.Column(scale=2, min_width=280):
            begin = None
            for key, control in controls.items():
                control.render()
                if tab.first is not None and tab.first[0] == key:
                    begin = gr.Button("Begin with a sample of the model", size="sm")
            with gr.Row(elem_classes="buttons"):
                button = gr.Button(tab.button, variant="primary", min_width=80)
                again = gr.Button("Another seed", min_width=80) if "seed" in controls else None
                stop = None if tab.looks else gr.Button("Stop", min_width=60, elem_classes="stop")
        with gr.Column(scale=3, min_width=320, elem_classes="made"):
            note = gr.HTML(said("opening ...") if tab.looks else "", elem_classes="said")
            shown = {kind: outputs(kind, tab) for kind in tab.shows if kind not in WIDE}
    with gr.Column(elem_classes="made"):
        shown |= {kind: outputs(kind, tab) for kind in tab.shows if kind in WIDE}
    timer = None if tab.every is None else gr.Timer(tab.every)
    made = [note, *(output for kind in tab.shows for output in shown[kind])]
    made += [] if timer is None else [button, timer]
    made += [] if tab.choices is None else [controls[tab.choices[0]]]
    running, inputs = Running(), [*controls.values()]
    action = {"fn": _action(gr, tab, run, page, running), "inputs": inputs, "outputs": made}
    action |= LOOK if tab.looks else WORK
    presses = [button.click(**action, api_name=name, show_progress_on=note)]
    quiet = {"show_progress": "hidden", "api_name": False}
    if begin is not None and tab.first is not None:
        key, make = tab.first
        started = begin.click(make, None, controls[key], api_name=f"{name}_begin", concurrency_id="work")
        started.then(None, note, note, js=FORGET, api_name=False)
    for key, (other, make) in tab.follows.items():
        controls[other].change(make, controls[other], controls[key], **quiet, **LOOK)
    if again is not None:
        sown = again.click(None, None, controls["seed"], js=ANOTHER, api_name=False)
        presses.append(sown.then(**action, show_progress_on=note, api_name=False))
    if stop is not None:
        stop.click(_stop_action(gr, running), None, note, cancels=presses, **quiet, **LOOK)
    if timer is not None:
        timer.tick(**action, **quiet)
    if tab.looks:
        for control in inputs:
            control.input(**action, show_progress="minimal", show_progress_on=note, api_name=False)
        return action
    for control in inputs:
        if "canvas" not in control.elem_classes:  # a canvas would send each stroke then; the page's script forgets
            control.change(None, note, note, js=FORGET, api_name=False)
    return None


def _action(gr: Any, tab: Tab, run: LoadedRun, page: PageContext, running: Running) -> Callable[..., list[Any]]:
    """Return what the button does; what is refused leaves what was made before, which nobody can look up again."""
    runs = (run, *(one for one in page.runs if one is not run))
    nothing = updates(tab, Result())
    before = nothing if tab.looks else [gr.skip() for _ in nothing]

    def act(request: Any, *sent: Any, progress: Any = gr.Progress()) -> list[Any]:  # noqa: B008 - how Gradio hands it over
        reporter = RequestReporter(lambda share, text: progress(share, desc=text))
        answers = dict(zip(tab.controls, sent, strict=True))
        try:
            with running.register(request.session_hash or "", reporter):
                result = run_tab(tab, answers, reporter, runs)
            shown = [said(result.said), *updates(tab, result)]
        except RequestError as error:
            result = Result()
            shown = [said(str(error), wrong=True), *before]
        if tab.every is not None:
            shown += [gr.update(visible=not result.over), gr.Timer(active=not result.over)]
        if tab.choices is not None:
            name, look_up = tab.choices
            options = look_up()
            value = answers[name] if answers[name] in options else options[0]
            shown.append(gr.update(choices=list(options), value=value))
        return shown

    return _with_request(gr, act)


def _stop_action(gr: Any, running: Running) -> Callable[..., str]:
    """Return what ends what a page has asked for; Gradio cancels what waits."""

    def stop(request: Any) -> str:
        running.stop(request.session_hash or "")
        return said("stopped, as you asked", wrong=True)

    return _with_request(gr, stop)


def _with_request(gr: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Have Gradio hand over whose request it is, which it does by annotations."""
    function.__annotations__["request"] = gr.Request
    return function


def warm_up(page: PageContext) -> None:
    """Draw one sample of the first run that can, then load what tabs need; what fails says so when somebody asks."""
    run = next((run for run in page.runs if run.is_plain and run.run.ema_weights.is_file()), None)
    with contextlib.suppress(Exception):
        if run is not None and run.modality is not None:
            sample(run.run, config_of(SampleConfig, n=1, out=str(place_in(page.room(), run.modality))))
    for name in (
        *("feller.evaluation.metrics", "feller.app.workflows.steering.inverse_problems"),
        "feller.app.workflows.steering.reward_search",
    ):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
