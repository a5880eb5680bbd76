"""The page, put together of tabs; the only importer of Gradio."""

import html
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from PIL import Image

from feller.data.speech.extra import need
from feller.errors import InputError, UsageError
from feller.studio.abilities import abilities_of
from feller.studio.ask import Wrong, ask
from feller.studio.controls import (
    MARKS,
    Cells,
    Choice,
    Control,
    Drawing,
    Number,
    Picture,
    Seed,
    Sound,
    Upload,
    Wave,
    Words,
)
from feller.studio.heard import Heard
from feller.studio.opened import Opened
from feller.studio.outcome import Outcome, Rows
from feller.studio.tab import Kind, Place, Tab

WORK, LOOK = "work", "look"
"""Two queues: what computes goes one after the other, and what only looks does not wait for it."""
LOOKING = {"concurrency_id": LOOK, "concurrency_limit": 4}
NARROW = 3
"""Columns up to which long cells get several lines."""
LINE, LETTER, PADDING, ROOM = 44, 9, 28, 672
"""Letters of such a line; pixels of a letter, around a cell, and of the column in which results stand."""
SEEN = {"interactive": False, "buttons": ["download", "fullscreen"], "min_width": 240, "elem_classes": "shown"}
"""Of a picture that comes out: two stand beside each other, and nothing is shared with others."""
TITLE = "feller"
SEEDS = 1_000_000
ANOTHER = f"() => Math.floor(Math.random() * {SEEDS})"
"""Another seed, which the page draws by itself, shows, and so can repeat."""


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
    package = resources.files("feller")  # naming the folders in it as packages would import all that draws reports
    own, report = (package.joinpath(name, "page.css").read_text(encoding="utf-8") for name in ("studio", "report"))
    return own + "\n".join(line for line in report.splitlines() if line.startswith(".plot"))


def script() -> str:
    """Return what the page does by itself, as an element of its head."""
    own = resources.files("feller").joinpath("studio", "page.js").read_text(encoding="utf-8")
    return f"<script>{own}</script>"


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
            with gr.Tab(ability.name) as shown:
                name = f"{prefix}{ability.name.lower().replace(' ', '_')}"
                act = _tab(gr, ability.tab(one, place), place, name)
                if act is not None:
                    shown.select(**act, show_progress="hidden", api_name=False)


def _tab(gr: Any, tab: Tab, place: Place, name: str) -> dict[str, Any] | None:
    """Add one tab, what is set beside what comes out; return what is done when somebody opens it."""
    gr.HTML(f'<p class="about">{html.escape(tab.about)}</p>')
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            there = {name: (_control(gr, control), _start(gr, control)) for name, control in tab.controls.items()}
            with gr.Row():
                button = gr.Button(tab.button, variant="primary")
                seeds = [there[key][0] for key, control in tab.controls.items() if isinstance(control, Seed)]
                again = gr.Button("Another seed") if seeds else None
        with gr.Column(scale=3, min_width=320, elem_classes="made"):
            said = gr.HTML("", elem_classes="said")
            outputs = [said, *(output for kind in tab.shows for output in _outputs(gr, kind, tab))]
    act, inputs = _acting(gr, tab, place), [shown for shown, _ in there.values()]
    for key, control in tab.controls.items():
        shown, start = there[key]
        if isinstance(control, Drawing) and control.first is not None:
            start.click(_starting(control.first), None, shown, api_name=f"{name}_begin", concurrency_id=WORK)
        if isinstance(control, Wave):
            drawn = _waving(gr, control, tab.controls[control.of], place)
            there[control.of][0].change(drawn, there[control.of][0], shown, api_name=f"{name}_{key}", **LOOKING)
    does = {"fn": act, "inputs": inputs, "outputs": outputs, **(LOOKING if tab.looks else {"concurrency_id": WORK})}
    button.click(**does, api_name=name, show_progress_on=said)
    if again is not None:
        sown = again.click(None, None, seeds, js=ANOTHER, api_name=False)
        sown.then(**does, show_progress_on=said, api_name=False)
    if tab.every is not None:
        gr.Timer(tab.every).tick(**does, show_progress="hidden", api_name=False)
    if not tab.looks:
        return None
    for shown, _ in there.values():
        shown.change(**does, show_progress="hidden", api_name=False)
    return does


def _acting(gr: Any, tab: Tab, place: Place) -> Callable[..., list[Any]]:
    """Return what the button does."""

    def act(*sent: Any, progress: Any = gr.Progress()) -> list[Any]:  # noqa: B008 - how Gradio hands it over
        heard = Heard(lambda share, text: progress(share, desc=text))
        try:
            found = ask(tab, dict(zip(tab.controls, sent, strict=True)), place.limits, heard)
        except Wrong as wrong:
            return [_said(str(wrong), wrong=True), *_filled(gr, tab, Outcome())]
        return [_said(found.said), *_filled(gr, tab, found)]

    return act


def _starting(first: Callable[[], Image.Image]) -> Callable[[], Any]:
    """Return what puts a first picture on a canvas."""

    def start() -> dict[str, Any]:
        return _canvas(first())

    return start


def _waving(gr: Any, control: Wave, of: Control, place: Place) -> Callable[[Any], Any]:
    """Return what draws a recording as soon as it is there; one that cannot be read is told of by the button."""

    def draw(sent: Any) -> dict[str, Any] | None:
        try:
            path = of.read(sent, place.limits)
            return None if path is None else _canvas(control.draw(path, control.size))
        except (InputError, UsageError):
            return None

    return draw


def _canvas(picture: Image.Image) -> dict[str, Any]:
    return {"background": picture, "layers": [], "composite": None}


def _said(text: str, *, wrong: bool = False) -> str:
    """Write lines for people; what is wrong stands out."""
    if not text:
        return ""
    lines = "<br>".join(map(html.escape, text.splitlines()))
    return f'<p class="{"wrong" if wrong else "note"}" role="{"alert" if wrong else "status"}">{lines}</p>'


def _start(gr: Any, control: Control) -> Any:
    """Return the button that begins a drawing, where there is one."""
    begins = isinstance(control, Drawing) and control.first is not None
    return gr.Button("Begin with a sample of the model", size="sm") if begins else None


def _number(gr: Any, control: Number) -> Any:
    told = {"label": control.label, "info": control.hint or None, "value": control.value}
    step = 1 if control.whole else 0.1
    if control.slides:
        return gr.Slider(minimum=control.least, maximum=control.most, step=step, **told)
    return gr.Number(step=step, **told)  # who types too much hears it from us: Gradio's own refusal has no words


def _drawing(gr: Any, label: str, size: tuple[int, int], sources: tuple[str, ...], brush: int) -> Any:
    """Return a canvas to draw on, as large as all of it is seen."""
    marks = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in MARKS]
    return gr.ImageEditor(
        label=label,
        type="pil",
        format="png",
        sources=list(sources),
        canvas_size=size,
        fixed_canvas=True,
        brush=gr.Brush(default_size=brush, colors=marks, default_color=marks[0], color_mode="fixed"),
        transforms=[],
        layers=False,
        height=size[1] + 80,
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
        return _drawing(gr, control.label, control.size, ("upload", "clipboard"), max(control.size) // 10)
    if isinstance(control, Wave):
        return _drawing(gr, control.label, control.size, (), min(control.size) // 3)
    if isinstance(control, Sound):
        return gr.Audio(type="filepath", sources=["upload", "microphone"], buttons=["download"], **label)
    if isinstance(control, Picture):
        sources = ["upload", "clipboard"]
        return gr.Image(type="filepath", sources=sources, height=240, buttons=["fullscreen"], **label)
    if isinstance(control, Upload):
        return gr.File(file_types=list(control.endings) or None, height=140, **label)
    raise TypeError(f"no control of the page is of kind {type(control).__name__}")


def _outputs(gr: Any, kind: Kind, tab: Tab) -> list[Any]:
    """Return what shows a kind of outcome; all is hidden until there is something."""
    if kind is Kind.PICTURES:
        with gr.Row():
            return [gr.Image(visible=False, type="filepath", **SEEN) for _ in range(tab.pictures)]
    if kind is Kind.SOUNDS:
        return [
            gr.Audio(interactive=False, visible=False, type="filepath", buttons=["download"]) for _ in range(tab.sounds)
        ]
    if kind is Kind.SIDES:
        with gr.Row():
            return [gr.Dataframe(interactive=False, visible=False, max_height=480, min_width=280) for _ in range(2)]
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
    if kind is Kind.SIDES:
        return [_table(gr, rows) for rows in (*found.sides, *[None] * (2 - len(found.sides)))]
    if kind is Kind.TABLE:
        return [_table(gr, found.table)]
    if kind is Kind.WORDS:
        return [gr.update(value=found.words, visible=bool(found.words))]
    if kind is Kind.FILES:
        return [shown([*map(str, found.files)])]
    if kind is Kind.PAGE:
        return [gr.update(value=_framed(found.page), visible=bool(found.page))]
    return [gr.update(value=found.drawing, visible=bool(found.drawing))]


def _table(gr: Any, rows: Rows | None) -> Any:
    """Show a table, or hide it; few columns get the width that their cells need, and several lines."""
    if rows is None:
        return gr.update(value=None, visible=False)
    narrow = len(rows.columns) <= NARROW
    return gr.update(
        value={"headers": list(rows.columns), "data": [*map(list, rows.cells)]},
        visible=True,
        label=rows.title or None,
        wrap=narrow,
        column_widths=_widths(rows) if narrow else None,
    )


def _widths(table: Rows) -> list[str]:
    """Return widths that cut no word: of the longest cell up to a line; the widest column takes what is left."""
    columns = [*zip(table.columns, *table.cells, strict=True)]
    words = [max(len(word) for cell in column for word in (cell.split() or [""])) for column in columns]
    cells = [min(max(map(len, column)), LINE) for column in columns]
    widths = [max(word, cell) * LETTER + PADDING for word, cell in zip(words, cells, strict=True)]
    widths[widths.index(max(widths))] += max(0, ROOM - sum(widths))
    return [f"{width}px" for width in widths]


def _framed(page: str) -> str:
    """Put a page into a frame of its own, in which nothing runs."""
    if not page:
        return ""
    return f'<iframe class="report" title="Report" sandbox="" srcdoc="{html.escape(page, quote=True)}"></iframe>'
