"""Gradio widgets of controls and outcomes, and the theme."""

import html
from collections.abc import Callable
from importlib import resources
from typing import Any

from PIL import Image

from feller.app.webui.controls import (
    MARKS,
    Cells,
    Choice,
    Control,
    Drawing,
    Number,
    Picture,
    Seed,
    Sound,
    Unreadable,
    Upload,
    Wave,
    Words,
)
from feller.app.webui.tab import Kind, Outcome, Place, Rows, Tab
from feller.core.errors import InputError, UsageError
from feller.core.optional_dependency import need


def widget(gr: Any, control: Control) -> Any:
    """Return what a control looks like."""
    label = {"label": control.label}
    if isinstance(control, Seed):
        shown = gr.Textbox(value=str(control.value), max_lines=1, info=control.hint or None, **label)
        return _as_sent(shown)
    if isinstance(control, Number):
        return _as_sent(_number(gr, control))
    if isinstance(control, Choice):
        shown = gr.Dropdown(list(control.options), value=control.value, info=control.hint or None, **label)
        return _as_sent(shown)
    if isinstance(control, Words):
        shown = {"lines": control.lines, "placeholder": control.example or None, "info": control.hint or None}
        return gr.Textbox(value=control.value, **shown, **label)
    if isinstance(control, Cells):
        return _cells(gr, control)
    if isinstance(control, Drawing):
        return _drawing(gr, control.label, control.size, ("upload", "clipboard"), max(control.size) // 10)
    if isinstance(control, Wave):
        return _drawing(gr, control.label, control.size, (), min(control.size) // 3, ("wave",))
    if isinstance(control, Sound):
        shown = gr.Audio(type="filepath", sources=["upload", "microphone"], buttons=["download"], **label)
        shown.preprocess = _place_of
        return shown
    if isinstance(control, Picture):
        sources = ["upload", "clipboard"]
        shown = gr.Image(type="filepath", sources=sources, height=240, buttons=["fullscreen"], **label)
        shown.preprocess = _place_of  # Gradio's own opens the file, and fails without words where it cannot
        return shown
    if isinstance(control, Upload):
        shown = gr.File(file_types=list(control.endings) or None, height=140, **label)
        shown.preprocess = _place_of
        return shown
    raise TypeError(f"no control of the page is of kind {type(control).__name__}")


def beginning(gr: Any, control: Control) -> Any:
    """Return the button that begins a drawing, where there is one."""
    begins = isinstance(control, Drawing) and control.first is not None
    return gr.Button("Begin with a sample of the model", size="sm") if begins else None


def starting(first: Callable[[], Image.Image]) -> Callable[[], Any]:
    """Return what puts a first picture on a canvas."""

    def start() -> dict[str, Any]:
        return _canvas(first())

    return start


def waving(control: Wave, of: Control, place: Place) -> Callable[[Any], Any]:
    """Return what draws a recording as soon as it is there; one that cannot be read is told of by the button."""

    def draw(sent: Any) -> dict[str, Any] | None:
        try:
            path = of.read(sent, place.limits)
            return None if path is None else _canvas(control.draw(path, control.size))
        except (InputError, UsageError):
            return None

    return draw


def showing(gr: Any, chosen: str) -> Callable[[Any], Any]:
    """Return what shows a control as long as something is chosen elsewhere, and hides it otherwise."""
    return lambda sent: gr.update(visible=sent == chosen)


def _canvas(picture: Image.Image) -> dict[str, Any]:
    return {"background": picture, "layers": [], "composite": None}


def _number(gr: Any, control: Number) -> Any:
    told = {"label": control.label, "info": control.hint or None, "value": control.value}
    step = 1 if control.whole else 0.1
    if control.slides:
        return gr.Slider(minimum=control.least, maximum=control.most, step=step, **told)
    return gr.Number(step=step, **told)  # who types too much hears it from us: Gradio's own refusal has no words


def _drawing(
    gr: Any, label: str, size: tuple[int, int], sources: tuple[str, ...], brush: int, more: tuple[str, ...] = ()
) -> Any:
    """Return a canvas to draw on, as large as all of it is seen; its tools lie beside what is drawn on."""
    marks = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in MARKS]
    canvas = gr.ImageEditor(
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
        elem_classes=["canvas", *more],
    )
    canvas.preprocess = _decoding(canvas.preprocess)
    return canvas


def _as_sent(shown: Any) -> Any:
    """Return what hands on what the client sent: its control refuses it in words that name it, as Gradio does not."""
    shown.preprocess = lambda payload: payload
    return shown


def _place_of(payload: Any) -> str | None:
    """Return where an uploaded file is; what it holds is looked at by its control."""
    return None if payload is None else payload.path


def _decoding(decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what decodes the pictures of a canvas, and names one that cannot be."""

    def decoded(payload: Any) -> Any:
        try:
            return decode(payload)
        except Exception:  # Pillow raises a dozen kinds on damaged files
            return Unreadable(getattr(getattr(payload, "background", None), "orig_name", None) or "")

    return decoded


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


def style() -> str:
    """Return the rules of the page, with those that a report draws its loss by."""
    package = resources.files("feller")  # naming the folders in it as packages would import all that draws reports
    own, report = (
        package.joinpath(name, "page.css").read_text(encoding="utf-8") for name in ("app/webui", "evaluation/report")
    )
    return own + "\n".join(line for line in report.splitlines() if line.startswith(".plot"))


def script() -> str:
    """Return what the page does by itself, as an element of its head."""
    own = resources.files("feller").joinpath("app", "webui", "page.js").read_text(encoding="utf-8")
    return f"<script>{own}</script>"


def theme() -> Any:
    """Return a plain look with the fonts of the machine."""
    gr: Any = need("gradio", "a page in the browser", "serve")
    sans, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Base(primary_hue="teal", neutral_hue="stone", font=sans, font_mono=mono, radius_size="sm")


NARROW = 3
"""Columns up to which long cells get several lines."""
LINE, LETTER, PADDING, ROOM = 44, 9, 28, 672
"""Letters of such a line; pixels of a letter, around a cell, and of the column in which results stand."""
SEEN = {"interactive": False, "buttons": ["download", "fullscreen"], "min_width": 240, "elem_classes": "shown"}
"""Of a picture that comes out: two stand beside each other, and nothing is shared with others."""


def outputs(gr: Any, kind: Kind, tab: Tab) -> list[Any]:
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


def filled(gr: Any, tab: Tab, found: Outcome) -> list[Any]:
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
    if kind is Kind.NUMBERS:
        return [gr.update(value=_numbers(found.numbers), visible=found.numbers is not None)]
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


def _numbers(rows: Rows | None) -> str:
    """Write a table that is seen as a whole at any width; what has no letters stays in one line."""
    if rows is None:
        return ""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in rows.columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows.cells)
    title = f"<caption>{html.escape(rows.title)}</caption>" if rows.title else ""
    return f'<table class="numbers">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(text: str) -> str:
    kind = "" if any(map(str.isalpha, text)) else ' class="number"'
    return f"<td{kind}>{html.escape(text)}</td>"


def _framed(page: str) -> str:
    """Put a page into a frame of its own, in which nothing runs; ours may see how high it is."""
    if not page:
        return ""
    inside = html.escape(page, quote=True)
    return f'<iframe class="report" title="Report" sandbox="allow-same-origin" srcdoc="{inside}"></iframe>'
