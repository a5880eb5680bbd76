"""The page: all tabs put together, and a warm-up before the first visitor."""

import contextlib
import html
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from feller.app.webui.button_presses import BEGINS, Stops
from feller.app.webui.controls import Choice, Control, Drawing, Seed, Wave
from feller.app.webui.loaded_run import Opened
from feller.app.webui.run_request import Heard, Wrong, ask, passing
from feller.app.webui.sample_views import place_in
from feller.app.webui.tab import WIDE, Ability, Outcome, Place, Tab
from feller.app.webui.tabs.bridging import PUSH
from feller.app.webui.tabs.compare import COMPARE
from feller.app.webui.tabs.documents import ASK, DRAW, FILL_DOCUMENT
from feller.app.webui.tabs.fill import FILL_PICTURE, FILL_ROWS, FILL_TEXT
from feller.app.webui.tabs.follow import FOLLOW
from feller.app.webui.tabs.forming import WATCH
from feller.app.webui.tabs.reports import REPORTS
from feller.app.webui.tabs.restoring import RESTORE
from feller.app.webui.tabs.sample import SAMPLE
from feller.app.webui.tabs.speaking import DENOISE, EDIT, RESTYLE, SAY
from feller.app.webui.tabs.steering import STEER
from feller.app.webui.widgets import beginning, filled, outputs, showing, starting, waving, widget
from feller.app.workflows.sample import sample
from feller.data.speech.optional_dependency import need

ABILITIES = (
    *(SAMPLE, PUSH, SAY, DRAW, ASK, EDIT, DENOISE, RESTYLE),
    *(FILL_PICTURE, FILL_TEXT, FILL_ROWS, FILL_DOCUMENT, RESTORE),
    *(WATCH, STEER, COMPARE, REPORTS, FOLLOW),
)


def abilities_of(one: Opened, place: Place) -> tuple[Ability, ...]:
    """Return what a run can do."""
    return tuple(ability for ability in ABILITIES if ability.has(one, place))


WORK, LOOK = "work", "look"
"""Two queues: what computes goes one after the other, and what only looks does not wait for it."""
LOOKING = {"concurrency_id": LOOK, "concurrency_limit": 4}
TITLE = "feller"
SEEDS = 1_000_000
ANOTHER = f"() => String(Math.floor(Math.random() * {SEEDS}))"
"""Another seed, which the page draws by itself, shows, and so can repeat."""
FORGET = """said => said.includes('class="wrong"') ? "" : said"""
"""A complaint is gone as soon as something else is set."""
OPENING = "opening ..."
LATE = "It was finished before it could be stopped."


def build(place: Place) -> Any:
    """Return the page of some runs, as Gradio's blocks."""
    gr: Any = need("gradio", "a page in the browser", "serve")
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600), fill_width=False) as blocks:
        gr.HTML(_heading(place.runs))
        if len(place.runs) == 1:
            _run(gr, place.runs[0], place, "")
        else:
            with gr.Tabs(overflow_behavior="wrap"):
                for number, one in enumerate(place.runs):
                    with gr.Tab(one.name):
                        gr.HTML(_about(one))
                        _run(gr, one, place, f"{number}_")
    blocks.queue(max_size=place.limits.queue, default_concurrency_limit=1, api_open=False)
    return blocks


def _heading(runs: Sequence[Opened]) -> str:
    if len(runs) > 1:
        return f'<header class="top"><h1>{TITLE}</h1><p>{len(runs)} runs</p></header>'
    return f'<header class="top"><h1>{html.escape(runs[0].name)}</h1>{_about(runs[0])}</header>'


def _about(one: Opened) -> str:
    return f"<p>{html.escape(one.asked)}</p>"


def _run(gr: Any, one: Opened, place: Place, prefix: str) -> None:
    """Add the tabs of a run."""
    with gr.Tabs(overflow_behavior="wrap"):
        for ability in abilities_of(one, place):
            with gr.Tab(ability.name) as shown:
                name = f"{prefix}{ability.name.lower().replace(' ', '_')}"
                act = _tab(gr, ability.tab(one, place), place, name, one)
                if act is not None:
                    shown.select(**act, show_progress="hidden", api_name=False)


def _tab(gr: Any, tab: Tab, place: Place, name: str, of: Opened) -> dict[str, Any] | None:
    """Add one tab, what is set beside what comes out; return what is done when somebody opens it."""
    gr.HTML(f'<p class="about">{html.escape(tab.about)}</p>')
    with gr.Row(equal_height=False, elem_classes="tab" if tab.controls else "tab plain"):
        with gr.Column(scale=2, min_width=280):
            there = {name: (widget(gr, control), beginning(gr, control)) for name, control in tab.controls.items()}
            for key, control in tab.controls.items():
                if control.only is not None:
                    other, chosen = control.only
                    there[key][0].visible = there[other][0].value == chosen
            with gr.Row(elem_classes="buttons"):
                button = gr.Button(tab.button, variant="primary", min_width=80)
                seeds = [there[key][0] for key, control in tab.controls.items() if isinstance(control, Seed)]
                again = gr.Button("Another seed", min_width=80) if seeds else None
                stop = None if tab.looks else gr.Button("Stop", min_width=60, elem_classes="stop")
        with gr.Column(scale=3, min_width=320, elem_classes="made"):
            said = gr.HTML(_said(OPENING) if tab.looks else "", elem_classes="said")
            beside = {kind: outputs(gr, kind, tab) for kind in tab.shows if kind not in WIDE}
    with gr.Column(elem_classes="made"):
        below = {kind: outputs(gr, kind, tab) for kind in tab.shows if kind in WIDE}
    made = [said, *(output for kind in tab.shows for output in {**beside, **below}[kind])]
    timer = None if tab.every is None else gr.Timer(tab.every)
    made += [] if timer is None else [button, timer]
    made += [there[key][0] for key, control in tab.controls.items() if _changes(control)]
    stops, inputs = Stops(), [shown for shown, _ in there.values()]
    act = _acting(gr, tab, place, of, stops)
    for key, control in tab.controls.items():
        shown, start = there[key]
        if isinstance(control, Drawing) and control.first is not None:
            begun = start.click(starting(control.first), None, shown, api_name=f"{name}_begin", concurrency_id=WORK)
            begun.then(None, said, said, js=FORGET, api_name=False)
        if isinstance(control, Wave):
            drawn = waving(control, tab.controls[control.of], place)
            there[control.of][0].change(drawn, there[control.of][0], shown, api_name=f"{name}_{key}", **LOOKING)
        if control.only is not None:
            other, chosen = control.only
            seen = {"show_progress": "hidden", "api_name": False, **LOOKING}
            there[other][0].change(showing(gr, chosen), there[other][0], shown, **seen)
    does = {"fn": act, "inputs": inputs, "outputs": made, **(LOOKING if tab.looks else {"concurrency_id": WORK})}
    button.click(**does, api_name=name, show_progress_on=said)
    if stop is not None:
        stop.click(_stopping(gr, stops), None, None, show_progress="hidden", api_name=False, **LOOKING)
    if again is not None:
        sown = again.click(None, None, seeds, js=ANOTHER, api_name=False)
        sown.then(**does, show_progress_on=said, api_name=False)
    if timer is not None:
        timer.tick(**does, show_progress="hidden", api_name=False)
    if not tab.looks:
        for key, control in tab.controls.items():
            if not isinstance(control, Drawing | Wave):  # a canvas would send each stroke then; its script forgets
                there[key][0].change(None, said, said, js=FORGET, api_name=False)
        return None
    for shown in inputs:
        shown.input(**does, show_progress="minimal", show_progress_on=said, api_name=False)
    return does


def _acting(gr: Any, tab: Tab, place: Place, of: Opened, stops: Stops) -> Callable[..., list[Any]]:
    """Return what the button does; what is refused leaves what was made before, which nobody can look up again."""
    runs = (of, *(one for one in place.runs if one is not of))
    nothing = filled(gr, tab, Outcome())
    before = nothing if tab.looks else [gr.skip() for _ in nothing]

    def act(asked: Any, *sent: Any, progress: Any = gr.Progress()) -> list[Any]:  # noqa: B008 - how Gradio hands it over
        heard = Heard(lambda share, text: progress(share, desc=text))
        try:
            with passing(heard), stops.working(asked.session_hash or "", heard):
                found = ask(
                    tab, dict(zip(tab.controls, sent, strict=True)), place.limits, heard, runs, places=place.places
                )
        except Wrong as wrong:
            return [_said(str(wrong), wrong=True), *before, *_goes_on(gr, tab, Outcome()), *_anew(gr, tab, sent)]
        said = "\n".join(filter(None, (found.said, LATE if heard.is_stopped else "")))
        return [_said(said), *filled(gr, tab, found), *_goes_on(gr, tab, found), *_anew(gr, tab, sent)]

    setattr(act, BEGINS, stops.begin)
    return _asked(gr, act)


def _stopping(gr: Any, stops: Stops) -> Callable[..., None]:
    """Return what ends what a page has asked for."""

    def stop(asked: Any) -> None:
        stops.stop(asked.session_hash or "")

    return _asked(gr, stop)


def _asked(gr: Any, does: Callable[..., Any]) -> Callable[..., Any]:
    """Have Gradio hand over whose request it is, which it does by annotations."""
    does.__annotations__["asked"] = gr.Request
    return does


def _goes_on(gr: Any, tab: Tab, found: Outcome) -> list[Any]:
    """Look again and offer to, as long as there is something to come."""
    if tab.every is None:
        return []
    return [gr.update(visible=not found.over), gr.Timer(active=not found.over)]


def _anew(gr: Any, tab: Tab, sent: Sequence[Any]) -> list[Any]:
    """Show the options that there are by now, of lists that change."""
    pairs = zip(tab.controls.values(), sent, strict=True)
    found = [control.anew(value) for control, value in pairs if isinstance(control, Choice) and control.now]
    return [gr.update(choices=list(options), value=chosen) for options, chosen in found]


def _changes(control: Control) -> bool:
    return isinstance(control, Choice) and control.now is not None


def _said(text: str, *, wrong: bool = False) -> str:
    """Write lines for people; what is wrong stands out."""
    if not text:
        return ""
    lines = "<br>".join(map(html.escape, text.splitlines()))
    return f'<p class="{"wrong" if wrong else "note"}" role="{"alert" if wrong else "status"}">{lines}</p>'


LATER = (
    "feller.evaluation.metrics",
    "feller.app.workflows.steering.inverse_problems",
    "feller.app.workflows.steer",
)
"""Modules that tabs load when they are first used."""


def warm(place: Place) -> None:
    """Draw one sample of the first run that can, then load what tabs need; what fails says so when somebody asks."""
    _draw(place)
    for name in LATER:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _draw(place: Place) -> None:
    one = next((one for one in place.runs if one.is_plain and one.run.average.is_file()), None)
    if one is None or one.modality is None:
        return
    with contextlib.suppress(Exception):
        sample(one.run, 1, out=str(place_in(place.scratch.room(), one.modality)))
