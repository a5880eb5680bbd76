"""The page, put together of tabs; the only importer of Gradio."""

import functools
import html
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from feller.data.speech.extra import need
from feller.studio.abilities import abilities_of
from feller.studio.ask import Wrong, ask
from feller.studio.controls import Cells, Choice, Control, Drawing, Number, Picture, Sound, Words
from feller.studio.heard import Heard
from feller.studio.opened import Opened
from feller.studio.outcome import Outcome
from feller.studio.tab import Kind, Place, Tab

WORK, LOOK = "work", "look"
"""Two queues: what computes goes one after the other, and what only looks does not wait for it."""
LOOKS = 4
NARROW = 3
"""Columns up to which long cells get several lines."""
SEEN = ["download", "fullscreen"]
"""Below a picture: nothing is shared with others."""
TITLE = "feller"


def build(place: Place) -> Any:
    """Return the page of some runs, as Gradio's blocks."""
    gr: Any = need("gradio", "a page in the browser", "serve")
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600), fill_width=False) as blocks:
        gr.HTML(_heading(place.runs))
        if len(place.runs) == 1:
            _run(gr, place.runs[0], place, "")
        else:
            with gr.Tabs():
                for number, one in enumerate(place.runs):
                    with gr.Tab(one.name):
                        gr.HTML(_about(one))
                        _run(gr, one, place, f"{number}_")
    blocks.queue(max_size=place.limits.queue, default_concurrency_limit=1, api_open=False)
    return blocks


def style() -> str:
    """Return the rules of the page, with those that a report draws its loss by."""
    report = resources.files("feller.report").joinpath("page.css").read_text(encoding="utf-8")
    plot = [line for line in report.splitlines() if line.startswith(".plot")]
    return resources.files("feller.studio").joinpath("page.css").read_text(encoding="utf-8") + "\n".join(plot)


def theme() -> Any:
    """Return a plain look with the fonts of the machine."""
    gr: Any = need("gradio", "a page in the browser", "serve")
    sans, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Base(primary_hue="teal", neutral_hue="stone", font=sans, font_mono=mono, radius_size="sm")


def _heading(runs: Sequence[Opened]) -> str:
    if len(runs) > 1:
        return f'<header class="top"><h1>{TITLE}</h1><p>{len(runs)} runs</p></header>'
    return f'<header class="top"><h1>{html.escape(runs[0].name)}</h1>{_about(runs[0])}</header>'


def _about(one: Opened) -> str:
    return f"<p>{html.escape(one.asked)}</p>"


def _run(gr: Any, one: Opened, place: Place, prefix: str) -> None:
    """Add the tabs of a run."""
    with gr.Tabs():
        for ability in abilities_of(one, place):
            with gr.Tab(ability.name):
                name = f"{prefix}{ability.name.lower().replace(' ', '_')}"
                _tab(gr, ability.tab(one, place), place, name)


def _tab(gr: Any, tab: Tab, place: Place, name: str) -> None:
    """Add one tab: what is set beside what comes out."""
    gr.HTML(f'<p class="about">{html.escape(tab.about)}</p>')
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            pairs = [(_control(gr, control), _start(gr, control)) for control in tab.controls.values()]
            button = gr.Button(tab.button, variant="primary")
        with gr.Column(scale=3, min_width=320):
            said = gr.HTML("", elem_classes="said")
            outputs = [said, *(output for kind in tab.shows for output in _outputs(gr, kind, tab))]
    act, inputs = _acting(gr, tab, place), [shown for shown, _ in pairs]
    for (shown, start), control in zip(pairs, tab.controls.values(), strict=True):
        if isinstance(control, Drawing):
            start.click(_starting(control, place), None, shown, api_name=f"{name}_begin", concurrency_id=WORK)
    looks = {"concurrency_id": LOOK, "concurrency_limit": LOOKS} if not tab.controls else {"concurrency_id": WORK}
    button.click(act, inputs, outputs, api_name=name, show_progress_on=said, **looks)
    if tab.every is not None:
        timer = gr.Timer(tab.every)
        timer.tick(act, inputs, outputs, show_progress="hidden", api_name=False, **looks)


def _acting(gr: Any, tab: Tab, place: Place) -> Callable[..., list[Any]]:
    """Return what the button does."""

    def act(*sent: Any, progress: Any = gr.Progress()) -> list[Any]:  # noqa: B008 - how Gradio hands it over
        heard = Heard(lambda share, text: progress(share, desc=text))
        try:
            found = ask(tab, dict(zip(tab.controls, sent, strict=True)), place.limits, place.scratch, heard)
        except Wrong as wrong:
            return [_said(str(wrong), wrong=True), *_filled(gr, tab, Outcome())]
        return [_said(found.said), *_filled(gr, tab, found)]

    return act


def _starting(control: Drawing, place: Place) -> Callable[[], Any]:
    """Return what puts a first picture on a canvas."""

    def start() -> dict[str, Any]:
        return {"background": control.first(), "layers": [], "composite": None}

    return start


def _said(text: str, *, wrong: bool = False) -> str:
    """Write lines for people; what is wrong stands out."""
    if not text:
        return ""
    lines = "<br>".join(map(html.escape, text.splitlines()))
    return f'<p class="{"wrong" if wrong else "note"}" role="{"alert" if wrong else "status"}">{lines}</p>'


def _start(gr: Any, control: Control) -> Any:
    """Return the button that begins a drawing, where there is one."""
    return gr.Button("Begin with a sample of the model", size="sm") if isinstance(control, Drawing) else None


def _number(gr: Any, control: Number) -> Any:
    step = 1 if control.whole else 0.1
    bounds = {"minimum": control.least, "maximum": control.most, "step": step}
    kind = gr.Slider if control.slides else functools.partial(gr.Number, precision=0 if control.whole else None)
    return kind(label=control.label, info=control.hint or None, value=control.value, **bounds)


def _drawing(gr: Any, control: Drawing) -> Any:
    return gr.ImageEditor(
        label=control.label,
        type="pil",
        format="png",
        sources=["upload", "clipboard"],
        canvas_size=control.size,
        fixed_canvas=True,
        brush=gr.Brush(default_size=max(control.size) // 10, colors=["#ffffff"], default_color="#ffffff"),
        transforms=[],
        layers=False,
        height=max(control.size) + 80,
    )


def _cells(gr: Any, control: Cells) -> Any:
    return gr.Dataframe(
        label=control.label,
        headers=list(control.columns),
        value=[list(row) for row in control.rows],
        column_count=(len(control.columns), "fixed"),
        row_count=(len(control.rows), "dynamic"),
        datatype="str",
        type="array",
        interactive=True,
        wrap=False,
    )


def _control(gr: Any, control: Control) -> Any:
    """Return what a control looks like."""
    label = {"label": control.label}
    if isinstance(control, Number):
        return _number(gr, control)
    if isinstance(control, Choice):
        return gr.Dropdown(list(control.options), value=control.value, info=control.hint or None, **label)
    if isinstance(control, Words):
        shown = {"lines": control.lines, "placeholder": control.example or None, "info": control.hint or None}
        return gr.Textbox(value=control.value, **shown, **label)
    if isinstance(control, Cells):
        return _cells(gr, control)
    if isinstance(control, Drawing):
        return _drawing(gr, control)
    if isinstance(control, Sound):
        return gr.Audio(type="filepath", sources=["upload", "microphone"], **label)
    if isinstance(control, Picture):
        return gr.Image(type="filepath", sources=["upload", "clipboard"], height=240, **label)
    raise TypeError(f"no control of the page is of kind {type(control).__name__}")


def _outputs(gr: Any, kind: Kind, tab: Tab) -> list[Any]:
    """Return what shows a kind of outcome; all is hidden until there is something."""
    if kind is Kind.PICTURES:
        with gr.Row():
            return [
                gr.Image(interactive=False, visible=False, type="filepath", buttons=SEEN) for _ in range(tab.pictures)
            ]
    if kind is Kind.SOUNDS:
        return [
            gr.Audio(interactive=False, visible=False, type="filepath", buttons=["download"]) for _ in range(tab.sounds)
        ]
    if kind is Kind.TABLE:
        return [gr.Dataframe(interactive=False, visible=False, max_height=480)]
    if kind is Kind.WORDS:
        return [gr.Textbox(label="Text", interactive=False, visible=False, lines=4, max_lines=30, buttons=["copy"])]
    if kind is Kind.FILES:
        return [gr.File(label="To download", visible=False, file_count="multiple", interactive=False)]
    return [gr.HTML("", visible=False)]


def _filled(gr: Any, tab: Tab, found: Outcome) -> list[Any]:
    """Return what all outputs show, in their order."""
    return [update for kind in tab.shows for update in _updates(gr, kind, tab, found)]


def _updates(gr: Any, kind: Kind, tab: Tab, found: Outcome) -> list[Any]:
    def shown(value: Any, **more: Any) -> Any:
        return gr.update(value=value or None, visible=bool(value), **more)

    if kind is Kind.PICTURES:
        pairs = [(str(one.path), {"label": one.caption}) for one in found.pictures[: tab.pictures]]
        return [shown(path, **label) for path, label in (*pairs, *[("", {})] * (tab.pictures - len(pairs)))]
    if kind is Kind.SOUNDS:
        paths = [*map(str, found.sounds), *[""] * tab.sounds][: tab.sounds]
        return [shown(path) for path in paths]
    if kind is Kind.TABLE:
        value = found.table and {"headers": list(found.table.columns), "data": [*map(list, found.table.cells)]}
        return [shown(value, wrap=found.table is not None and len(found.table.columns) <= NARROW)]
    if kind is Kind.WORDS:
        return [gr.update(value=found.words, visible=bool(found.words))]
    if kind is Kind.FILES:
        return [shown([*map(str, found.files)])]
    if kind is Kind.PAGE:
        return [gr.update(value=_framed(found.page), visible=bool(found.page))]
    return [gr.update(value=found.drawing, visible=bool(found.drawing))]


def _framed(page: str) -> str:
    """Put a page into a frame of its own, in which nothing runs."""
    if not page:
        return ""
    return f'<iframe class="report" title="Report" sandbox="" srcdoc="{html.escape(page, quote=True)}"></iframe>'
