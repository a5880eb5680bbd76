"""Assembly of the web page from its tabs, and warm-up before the first request."""

import contextlib
import html
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.run_request import RequestError, RequestReporter, RunningRequests, run_tab
from feller.app.webui.run_state import REFRESH_SECONDS, read_state
from feller.app.webui.tab import OutputKind, PageContext, Tab, TabResult
from feller.app.webui.tabs.animation_tab import watch_tab
from feller.app.webui.tabs.bridge_tab import transport_tab
from feller.app.webui.tabs.compare_tab import compare_tab
from feller.app.webui.tabs.document_tabs import ask_tab, document_fill_tab, draw_tab
from feller.app.webui.tabs.inpainting_tabs import picture_fill_tab, row_fill_tab, text_fill_tab
from feller.app.webui.tabs.restoration_tab import restore_tab
from feller.app.webui.tabs.run_tabs import follow_tab, reports_tab
from feller.app.webui.tabs.sample_tab import drawn_view, guidance_tab, sample_tab, why_not_drawn
from feller.app.webui.tabs.speech_tabs import denoise_tab, edit_tab, restyle_tab, text_to_speech_tab
from feller.app.webui.tabs.steering_tab import steer_tab
from feller.app.webui.widgets import MAX_SEED, gradio, message_html, output_components, updates
from feller.core.errors import InputError

TABS: tuple[Callable[[LoadedRun, PageContext], Tab | None], ...] = (
    *(sample_tab, guidance_tab, transport_tab, text_to_speech_tab, draw_tab, ask_tab),
    *(edit_tab, denoise_tab, restyle_tab),
    *(picture_fill_tab, text_fill_tab, row_fill_tab, document_fill_tab, restore_tab),
    *(watch_tab, steer_tab, compare_tab, reports_tab, follow_tab),
)
"""Functions that construct the tabs; each returns None for a run that does not support the tab, and must not read
weights."""
MAX_WAITING = 100
"""Maximum number of queued requests."""
COMPUTE_QUEUE = {"concurrency_id": "work", "concurrency_limit": 1}
READ_QUEUE = {"concurrency_id": "look", "concurrency_limit": 4}
"""Gradio queue of read-only requests, separate from the queue of computing requests, which run one at a time."""
NEW_SEED_JS = f"() => Math.floor(Math.random() * {min(MAX_SEED, 1_000_000)})"
"""JavaScript expression that returns a random seed for the seed field of the page."""
CLEAR_ERROR_JS = """said => said.includes('class="wrong"') ? "" : said"""
"""JavaScript that clears an error message when an input changes."""
FULL_WIDTH_KINDS = (OutputKind.SIDES, OutputKind.NUMBERS, OutputKind.PAGE)
"""Kinds of output that span the full width of the page, below the controls."""


def tabs_of(run: LoadedRun, page: PageContext) -> list[Tab]:
    """Return the tabs that a run supports."""
    return [tab for make in TABS if (tab := make(run, page)) is not None]


def build(page: PageContext) -> Any:
    """Build the web page with all its runs, and return it as `gradio.Blocks`, not launched yet."""
    gr, runs = gradio(), page.runs
    summaries = [f"<p>{html.escape(run.summary)}</p>" for run in runs]
    title, below = (
        (html.escape(runs[0].name), summaries[0]) if len(runs) == 1 else ("feller", f"<p>{len(runs)} runs</p>")
    )
    with gr.Blocks(title="feller", analytics_enabled=False, delete_cache=(600, 3600), fill_width=False) as blocks:
        gr.HTML(f'<header class="top"><h1>{title}</h1>{below}</header>')
        if len(runs) == 1:
            opened = [_add_run(gr, runs[0], page, "")]
        else:
            opened = []
            with gr.Tabs(overflow_behavior="wrap"):
                for i, run in enumerate(runs):
                    with gr.Tab(run.name) as shown:
                        gr.HTML(summaries[i])
                        opened.append(_add_run(gr, run, page, f"{i}_"))
                    for event in opened[-1]:
                        shown.select(**event)
        for event in opened[0]:  # the first tab is open without being selected
            blocks.load(**event)
    blocks.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    return blocks


def _add_run(gr: Any, run: LoadedRun, page: PageContext, prefix: str) -> list[dict[str, Any]]:
    """Add the state of a run and its tabs; return the events of opening it."""
    header, timer = gr.HTML("", elem_classes="header"), gr.Timer(REFRESH_SECONDS, active=False)
    look = {"fn": lambda: _header(gr, run), "outputs": [header, timer], **READ_QUEUE, "show_progress": "hidden"}
    timer.tick(**look, api_name=f"{prefix}state")
    look["api_name"] = False
    opened = [look]
    with gr.Tabs(overflow_behavior="wrap"):
        for tab in tabs_of(run, page):
            with gr.Tab(tab.name) as shown:
                on_select, on_open = _add_tab(gr, tab, f"{prefix}{tab.name.lower().replace(' ', '_')}", run, page)
            for event in (look, *on_select):
                shown.select(**event)
            opened += on_open
    return opened


def _header(gr: Any, run: LoadedRun) -> list[Any]:
    """Return the state of a run as HTML, and the timer that reads it again until it is final."""
    try:
        state = read_state(run)
        return [state.html, gr.Timer(active=not state.is_final)]
    except InputError:
        return [message_html(f"the run {run.name} is no longer there", is_error=True), gr.Timer(active=False)]


Events = list[dict[str, Any]]
"""Arguments of Gradio's event listeners."""


def _add_tab(gr: Any, tab: Tab, name: str, run: LoadedRun, page: PageContext) -> tuple[Events, Events]:
    """Add a tab with its controls and outputs; return the events of selecting it, and of opening the run."""
    controls = tab.controls
    gr.HTML(f'<p class="about">{html.escape(tab.description)}</p>')
    layout = ["tab", *([] if controls else ["plain"]), *([] if tab.first_view is None else ["filled"])]
    with gr.Row(equal_height=False, elem_classes=layout):
        with gr.Column(scale=2, min_width=280):
            begin = None
            for key, control in controls.items():
                control.render()
                if tab.initial_value is not None and tab.initial_value[0] == key:
                    begin = gr.Button("Use a sample of the model", size="sm")
            with gr.Row(elem_classes="buttons"):
                button = gr.Button(tab.button, variant="primary", min_width=80)
                again = gr.Button("New seed", min_width=80) if "seed" in controls else None
                stop = None if tab.is_read_only else gr.Button("Stop", min_width=60, elem_classes="stop")
        with gr.Column(scale=3, min_width=320, elem_classes="made"):
            loading = "loading ..." if tab.is_read_only or tab.first_view is not None else ""
            note = gr.HTML(message_html(loading), elem_classes="said")
            shown = {kind: output_components(kind, tab) for kind in tab.outputs if kind not in FULL_WIDTH_KINDS}
    with gr.Column(elem_classes="made"):
        shown |= {kind: output_components(kind, tab) for kind in tab.outputs if kind in FULL_WIDTH_KINDS}
    timer = None if tab.refresh_seconds is None else gr.Timer(tab.refresh_seconds)
    results = [note, *(output for kind in tab.outputs for output in shown[kind])]
    made = [*results, *([] if timer is None else [button, timer])]
    made += [] if tab.dynamic_choices is None else [controls[tab.dynamic_choices[0]]]
    seen = gr.State(value=False)
    made += [] if tab.first_view is None else [seen]
    running, inputs = RunningRequests(), [*controls.values()]
    action = {"fn": _action(gr, tab, run, page, running), "inputs": inputs, "outputs": made}
    action |= READ_QUEUE if tab.is_read_only else COMPUTE_QUEUE
    presses = [button.click(**action, api_name=name, show_progress_on=note)]
    quiet = {"show_progress": "hidden", "api_name": False}
    if begin is not None and tab.initial_value is not None:
        key, make = tab.initial_value
        started = begin.click(make, None, controls[key], api_name=f"{name}_begin", concurrency_id="work")
        started.then(None, note, note, js=CLEAR_ERROR_JS, api_name=False)
    for key, (other, make) in tab.dependent_controls.items():
        controls[other].change(make, controls[other], controls[key], **quiet, **READ_QUEUE)
    if again is not None:
        sown = again.click(None, None, controls["seed"], js=NEW_SEED_JS, api_name=False)
        presses.append(sown.then(**action, show_progress_on=note, api_name=False))
    if stop is not None:
        stop.click(_stop_action(gr, running), None, note, cancels=presses, **quiet, **READ_QUEUE)
    if timer is not None:
        timer.tick(**action, **quiet)
    if tab.is_read_only:
        for control in inputs:
            control.input(**action, show_progress="minimal", show_progress_on=note, api_name=False)
        return [{**action, **quiet}], []
    for control in inputs:
        if "canvas" not in control.elem_classes:  # would upload each stroke; page.js clears these errors
            control.change(None, note, note, js=CLEAR_ERROR_JS, api_name=False)
    if tab.first_view is None:
        return [], []
    first = {"fn": _first_action(gr, tab, run), "inputs": [seen], "outputs": [seen, *results]}
    first |= {**COMPUTE_QUEUE, **quiet}
    return [first], [{**first, "api_name": f"{name}_first"}]


def _first_action(gr: Any, tab: Tab, run: LoadedRun) -> Callable[[bool], list[Any]]:
    """Return the callback that fills a tab when it is opened, unless it has been filled or its button pressed."""

    def act(seen: bool) -> list[Any]:
        nothing = updates(tab, TabResult())
        if seen or tab.first_view is None:
            return [True, gr.skip(), *(gr.skip() for _ in nothing)]
        with contextlib.suppress(Exception):  # an error is shown after a press
            result = run_tab(replace(tab, handler=lambda *_: tab.first_view()), {}, RequestReporter(), (run,))
            is_filled = bool(result.pictures or result.table or result.words)
            return [is_filled, message_html(result.message), *updates(tab, result)]
        return [False, "", *nothing]

    return act


def _action(gr: Any, tab: Tab, run: LoadedRun, page: PageContext, running: RunningRequests) -> Callable[..., list[Any]]:
    """Return the callback of the tab's button; after an error the previous outputs stay."""
    runs = (run, *(one for one in page.runs if one is not run))
    nothing = updates(tab, TabResult())
    before = nothing if tab.is_read_only else [gr.skip() for _ in nothing]

    def act(request: Any, *sent: Any, progress: Any = gr.Progress()) -> list[Any]:  # noqa: B008 - Gradio's convention
        reporter = RequestReporter(lambda share, text: progress(share, desc=text))
        answers = dict(zip(tab.controls, sent, strict=True))
        try:
            with running.register(request.session_hash or "", reporter):
                result = run_tab(tab, answers, reporter, runs)
            shown = [message_html(result.message), *updates(tab, result)]
        except RequestError as error:
            result = TabResult()
            shown = [message_html(str(error), is_error=True), *before]
        if tab.refresh_seconds is not None:
            shown += [gr.update(visible=not result.is_finished), gr.Timer(active=not result.is_finished)]
        if tab.dynamic_choices is not None:
            name, look_up = tab.dynamic_choices
            options = look_up()
            value = answers[name] if answers[name] in options else options[0]
            shown.append(gr.update(choices=list(options), value=value))
        if tab.first_view is not None:
            shown.append(True)
        return shown

    return _with_request(gr, act)


def _stop_action(gr: Any, running: RunningRequests) -> Callable[..., str]:
    """Return the callback of the stop button, which stops a running request; Gradio itself cancels queued ones."""

    def stop(request: Any) -> str:
        running.stop(request.session_hash or "")
        return message_html("stopped", is_error=True)

    return _with_request(gr, stop)


def _with_request(gr: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Annotate the `request` parameter of a callback, so that Gradio passes the request with its session."""
    function.__annotations__["request"] = gr.Request
    return function


def warm_up(page: PageContext) -> None:
    """Draw the first samples of one run and import slow modules, so that the first requests are fast.

    The run is the first one on the page of which samples may be drawn without a request. Errors are ignored.
    """
    run = next((run for run in page.runs if run.is_sampled and not why_not_drawn(run, page)), None)
    with contextlib.suppress(Exception):
        if run is not None:
            drawn_view(run, page)
    for name in (
        *("feller.evaluation.metrics", "feller.app.workflows.steering.inverse_problems"),
        "feller.app.workflows.steering.reward_search",
    ):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
