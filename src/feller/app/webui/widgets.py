"""Gradio components for the controls and outputs of the web page, its style and its theme."""

import contextlib
import html
import inspect
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from PIL import Image

from feller.core.errors import UsageError
from feller.core.optional_dependency import require_package
from feller.data.images.image_loading import FORMATS

if TYPE_CHECKING:
    from feller.app.webui.tab import OutputKind, Tab, TabResult, TextTable

BRUSH_COLOURS = ((255, 47, 208), (57, 255, 20))
"""Colours offered for the brush; on every image, at least one of these colours is visible."""
MAX_SEED = 2**31 - 1


def gradio() -> Any:
    """Import Gradio and return the module; UsageError if Gradio is not installed."""
    with contextlib.nullcontext() if "gradio" in sys.modules else _without_stubs():
        return require_package("gradio", "the web page", "serve")


@contextlib.contextmanager
def _without_stubs() -> Iterator[None]:
    """Prevent Gradio from writing .pyi stub files during its import, which takes two fifths of the import time.

    Gradio has no option for this, but it skips classes without a source file.
    """
    usual = inspect.getfile

    def getfile(object: Any) -> str:
        if inspect.isclass(object) and object.__module__.startswith("gradio."):
            raise OSError("no stub is needed")
        return usual(object)

    inspect.getfile = getfile
    try:
        yield
    finally:
        inspect.getfile = usual


def number(
    label: str,
    value: int | float,
    minimum: int | float,
    maximum: int | float,
    *,
    hint: str = "",
    is_integer: bool = True,
    is_slider: bool = True,
    visible: bool = True,
) -> Any:
    """Return a slider (if `is_slider`) or a number field, for a number between `minimum` and `maximum`.

    `value` is the initial value, and `hint` the help text below the label.
    """
    gr = gradio()
    if is_slider:
        kind, bounds = gr.Slider, {"minimum": minimum, "maximum": maximum, "step": 1 if is_integer else 0.1}
    else:
        kind, bounds = gr.Number, {"minimum": minimum, "maximum": maximum}
    precision = {"precision": 0 if is_integer else None}
    return kind(value=value, label=label, info=hint or None, visible=visible, render=False, **bounds, **precision)


def seed() -> Any:
    """Return the number field for the random seed."""
    return number("Seed", 0, 0, MAX_SEED, hint="The same seed gives the same result.", is_slider=False)


def choice(
    label: str,
    options: tuple[str, ...],
    *,
    hint: str = "",
    allows_new: bool = False,
    uses: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """Return a dropdown with its first option selected.

    Args:
        label: Label.
        options: Values to choose from.
        hint: Help text below the label.
        allows_new: True to let users enter other values, so the handler must validate the value.
        uses: Option -> advice on when to choose it, which the list shows after the option.
    """
    names = [(f"{name}: {uses[name]}" if name in uses else name, name) for name in options]
    return gradio().Dropdown(
        names, value=options[0], label=label, info=hint or None, allow_custom_value=allows_new, render=False
    )


def text_field(label: str, *, hint: str = "", example: str = "", lines: int = 1, value: str = "") -> Any:
    """Return a text field."""
    return gradio().Textbox(
        value=value, label=label, info=hint or None, placeholder=example or None, lines=lines, render=False
    )


def cells(label: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Any:
    """Return an editable table whose cells are text, with fixed columns and the initial rows `rows`."""
    return gradio().Dataframe(
        label=label,
        headers=list(columns),
        value=[list(row) for row in rows],
        column_count=(len(columns), "fixed"),
        row_count=(len(rows), "dynamic"),
        datatype="str",
        type="array",
        interactive=True,
        wrap=False,
        render=False,
    )


def upload(label: str, endings: tuple[str, ...]) -> Any:
    """Return a control for uploading a file whose name ends in one of `endings`, such as .csv."""
    return gradio().File(file_types=list(endings), height=140, label=label, render=False)


def sound(label: str) -> Any:
    """Return a control for uploading or recording audio."""
    sources = ["upload", "microphone"]
    return gradio().Audio(type="filepath", sources=sources, buttons=["download"], label=label, render=False)


def picture(label: str) -> Any:
    """Return a control for uploading an image, which the handler must validate with `check_picture`."""
    sources, buttons = ["upload", "clipboard"], ["fullscreen"]
    shown = gradio().Image(type="filepath", sources=sources, height=240, buttons=buttons, label=label, render=False)
    shown.preprocess = lambda payload: None if payload is None else payload.path  # Gradio's own fails without a message
    return shown


def canvas(label: str, size: tuple[int, int], *, brush: int, own: bool = True, elem_class: str = "") -> Any:
    """Return an image editor for drawing masks."""
    gr, colors = gradio(), [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in BRUSH_COLOURS]
    return gr.ImageEditor(
        label=label,
        type="pil",
        format="png",
        sources=["upload", "clipboard"] if own else [],
        canvas_size=size,
        fixed_canvas=True,
        brush=gr.Brush(default_size=brush, colors=colors, default_color=colors[0], color_mode="fixed"),
        transforms=[],
        layers=False,
        height=size[1] + 80,
        elem_classes=["canvas", elem_class],
        render=False,
    )


def visible(shown: bool) -> Any:
    """Return the Gradio update that shows or hides a control."""
    return gradio().update(visible=shown)


def canvas_value(background: Image.Image) -> dict[str, Any]:
    """Return the value of a canvas that shows a background image without strokes."""
    return {"background": background, "layers": [], "composite": None}


def read_canvas(value: Any) -> tuple[Image.Image | None, Image.Image | None]:
    """Return the background image of a canvas, and the mask of the brush strokes (white on black).

    Each of the two is None if it is empty.
    """
    background = (value or {}).get("background")
    if background is None:
        return None, None
    mask = Image.new("L", background.size)
    for layer in value.get("layers") or ():
        if layer is not None:
            mask.paste(255, (0, 0), layer.convert("RGBA").getchannel("A").resize(background.size))
    return background, mask if mask.getbbox() else None


def check_picture(file: str | None) -> pathlib.Path | None:
    """Return the path of an uploaded image after checking it; None if nothing was uploaded.

    Raises:
        UsageError: If the file is not a complete, readable image.
    """
    if file is None:
        return None
    path = pathlib.Path(file)
    try:
        with Image.open(path, formats=FORMATS) as there:
            there.load()
    except Image.DecompressionBombError as error:
        raise UsageError("too many pixels for this page", remedy="Downscale the image", file=path.name) from error
    except Exception as error:  # Pillow raises many exception types on damaged files
        raise UsageError(
            "not a readable image", remedy="Choose another file (png, jpg, webp ...)", file=path.name
        ) from error
    return path


def style() -> str:
    """Return the CSS of the page, including the style of loss curves in reports."""
    package = resources.files("feller")  # its subpackages as anchors would import the report modules
    own, report = (
        package.joinpath(name, "page.css").read_text(encoding="utf-8") for name in ("app/webui", "evaluation/report")
    )
    return own + "\n".join(line for line in report.splitlines() if line.startswith(".plot"))


def script() -> str:
    """Return the HTML script element of the page."""
    own = resources.files("feller").joinpath("app", "webui", "page.js").read_text(encoding="utf-8")
    return f"<script>{own}</script>"


def theme() -> Any:
    """Return a plain Gradio theme with system fonts."""
    sans, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gradio().themes.Base(primary_hue="teal", neutral_hue="stone", font=sans, font_mono=mono, radius_size="sm")


MAX_WIDE = 4
"""Maximum number of images of a tab for which each gets half of the output column, at least."""
NARROW = 3
"""Maximum number of columns for which the cells of a table are wrapped."""
LINE, LETTER, PADDING, ROOM = 44, 9, 28, 672
"""Layout of tables: letters per wrapped line, then in pixels the width of a letter, the cell padding, and the width of
the output column."""


def output_components(kind: "OutputKind", tab: "Tab") -> list[Any]:
    """Return the Gradio components for one kind of output; they are hidden until they have a value."""
    gr = gradio()
    hidden = {"visible": False, "interactive": False}
    match kind.value:
        case "pictures":
            wide = tab.max_pictures <= MAX_WIDE
            buttons = ["download", "fullscreen"] if wide else ["fullscreen"]
            look = {"buttons": buttons, "min_width": 240 if wide else 120, "elem_classes": "shown"}
            with gr.Row():
                return [gr.Image(type="filepath", **hidden, **look) for _ in range(tab.max_pictures)]
        case "sounds":
            return [gr.Audio(type="filepath", buttons=["download"], **hidden)]
        case "sides":
            with gr.Row():
                return [gr.Dataframe(max_height=480, min_width=280, **hidden) for _ in range(2)]
        case "table":
            return [gr.Dataframe(max_height=480, **hidden)]
        case "words":
            return [gr.Textbox(label="Text", lines=4, max_lines=30, buttons=["copy"], **hidden)]
        case "files":
            return [gr.File(label="Downloads", file_count="multiple", **hidden)]
    return [gr.HTML("", visible=False)]


def updates(tab: "Tab", result: "TabResult") -> list[Any]:
    """Return the Gradio updates that show a result in all outputs of a tab, in the order of the outputs."""
    gr = gradio()

    def shown(value: Any, **more: Any) -> Any:
        return gr.update(value=value or None, visible=bool(value), **more)

    def padded(values: tuple[Any, ...], n: int) -> tuple[Any, ...]:
        return (*values[:n], *[None] * (n - len(values)))

    fills: dict[str, Callable[[], list[Any]]] = {
        "pictures": lambda: [
            shown("") if one is None else shown(str(one.path), label=one.caption)
            for one in padded(result.pictures, tab.max_pictures)
        ],
        "sounds": lambda: [shown(one and str(one)) for one in padded(result.sounds, 1)],
        "sides": lambda: [_table(rows) for rows in padded(result.sides, 2)],
        "table": lambda: [_table(result.table)],
        "words": lambda: [shown(result.words)],
        "files": lambda: [shown([*map(str, result.files)])],
        "numbers": lambda: [shown(_numbers(result.numbers))],
        "page": lambda: [shown(_iframe(result.page))],
        "drawing": lambda: [shown(result.drawing)],
    }
    return [update for kind in tab.outputs for update in fills[kind.value]()]


def _table(rows: "TextTable | None") -> Any:
    """Return the Gradio update of a table; tables with few columns get fitted widths and wrapped cells."""
    if rows is None:
        return gradio().update(value=None, visible=False)
    narrow = len(rows.columns) <= NARROW
    return gradio().update(
        value={"headers": list(rows.columns), "data": [*map(list, rows.cells)]},
        visible=True,
        label=rows.title or None,
        wrap=narrow,
        column_widths=_widths(rows) if narrow else None,
    )


def _widths(table: "TextTable") -> list[str]:
    """Return column widths that break no word; the widest column takes the remaining space."""
    columns = [*zip(table.columns, *table.cells, strict=True)]
    words = [max(len(word) for cell in column for word in (cell.split() or [""])) for column in columns]
    cells = [min(max(map(len, column)), LINE) for column in columns]
    widths = [max(word, cell) * LETTER + PADDING for word, cell in zip(words, cells, strict=True)]
    widths[widths.index(max(widths))] += max(0, ROOM - sum(widths))
    return [f"{width}px" for width in widths]


def _numbers(rows: "TextTable | None") -> str:
    """Return metrics as an HTML table; cells without letters are not wrapped."""
    if rows is None:
        return ""

    def cell(name: str, text: str) -> str:
        kind = "" if any(map(str.isalpha, text)) else ' class="number"'
        return f'<td{kind} data-column="{html.escape(name)}">{html.escape(text)}</td>'

    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in rows.columns)
    body = "".join(f"<tr>{''.join(map(cell, rows.columns, row))}</tr>" for row in rows.cells)
    title = f"<caption>{html.escape(rows.title)}</caption>" if rows.title else ""
    return f'<table class="numbers">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _iframe(page: str) -> str:
    """Return an iframe that runs no scripts; it is same-origin only so that page.js can read its height."""
    if not page:
        return ""
    inside = html.escape(page, quote=True)
    return f'<iframe class="report" title="Report" sandbox="allow-same-origin" srcdoc="{inside}"></iframe>'


def message_html(text: str, *, is_error: bool = False) -> str:
    """Return a message or an error as HTML."""
    if not text:
        return ""
    lines = "<br>".join(map(html.escape, text.splitlines()))
    return f'<p class="{"wrong" if is_error else "note"}" role="{"alert" if is_error else "status"}">{lines}</p>'
