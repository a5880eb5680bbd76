"""Gradio's components of controls and results, and the theme; nothing else on the page names them."""

import contextlib
import html
import inspect
import pathlib
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from typing import TYPE_CHECKING, Any

from PIL import Image

from feller.core.errors import UsageError
from feller.core.optional_dependency import require_package
from feller.data.images.image_loading import FORMATS

if TYPE_CHECKING:
    from feller.app.webui.tab import OutputKind, Tab, TabResult, TextTable

BRUSH_COLOURS = ((255, 47, 208), (57, 255, 20))
"""Colours to draw over pictures with: where one is hard to see, the other is not."""
MAX_SEED = 2**31 - 1


def gradio() -> Any:
    """Import Gradio.

    Raises:
        UsageError: If it is not installed.
    """
    with contextlib.nullcontext() if "gradio" in sys.modules else _without_stubs():
        return require_package("gradio", "a page in the browser", "serve")


@contextlib.contextmanager
def _without_stubs() -> Iterator[None]:
    """Have Gradio write no stubs: it parses its files for each of its classes, which is two fifths of importing it.

    Nothing turns that off, but it writes none of a class that comes from no file.
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
    """Return a number between two others; chosen by eye unless it must be typed."""
    gr = gradio()
    if is_slider:
        kind, bounds = gr.Slider, {"minimum": minimum, "maximum": maximum, "step": 1 if is_integer else 0.1}
    else:
        kind, bounds = gr.Number, {"minimum": minimum, "maximum": maximum}
    precision = {"precision": 0 if is_integer else None}
    return kind(value=value, label=label, info=hint or None, visible=visible, render=False, **bounds, **precision)


def seed() -> Any:
    """Return the seed of a request."""
    return number("Seed", 0, 0, MAX_SEED, hint="The same seed draws the same again.", is_slider=False)


def choice(label: str, options: tuple[str, ...], *, hint: str = "", allows_new: bool = False) -> Any:
    """Return one of some names, the first at first; of a list that grows, whoever reads the name checks it."""
    return gradio().Dropdown(
        list(options), value=options[0], label=label, info=hint or None, allow_custom_value=allows_new, render=False
    )


def text(label: str, *, hint: str = "", example: str = "", lines: int = 1) -> Any:
    """Return a text."""
    return gradio().Textbox(
        value="", label=label, info=hint or None, placeholder=example or None, lines=lines, render=False
    )


def cells(label: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Any:
    """Return a small table of texts."""
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
    """Return a file of the visitor's."""
    return gradio().File(file_types=list(endings), height=140, label=label, render=False)


def sound(label: str) -> Any:
    """Return a recording of the visitor's."""
    sources = ["upload", "microphone"]
    return gradio().Audio(type="filepath", sources=sources, buttons=["download"], label=label, render=False)


def picture(label: str) -> Any:
    """Return a picture of the visitor's; `check_picture` says whether it is one."""
    sources, buttons = ["upload", "clipboard"], ["fullscreen"]
    shown = gradio().Image(type="filepath", sources=sources, height=240, buttons=buttons, label=label, render=False)
    shown.preprocess = lambda payload: None if payload is None else payload.path  # its own fails without words
    return shown


def canvas(label: str, size: tuple[int, int], *, brush: int, own: bool = True, elem_class: str = "") -> Any:
    """Return a canvas to draw on, as large as all of it is seen; its tools lie beside what is drawn on.

    Args:
        label: What it is.
        size: Width and height, in pixels.
        brush: Pixels that it draws at first.
        own: Whether people bring pictures of their own.
        elem_class: For the style.
    """
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
    """Return what shows a control, or hides it."""
    return gradio().update(visible=shown)


def canvas_value(background: Image.Image) -> dict[str, Any]:
    """Return what a canvas shows."""
    return {"background": background, "layers": [], "composite": None}


def read_canvas(value: Any) -> tuple[Image.Image | None, Image.Image | None]:
    """Return the picture of a canvas, and where something is drawn on it, white on black; None where there is none."""
    background = (value or {}).get("background")
    if background is None:
        return None, None
    mask = Image.new("L", background.size)
    for layer in value.get("layers") or ():
        if layer is not None:
            mask.paste(255, (0, 0), layer.convert("RGBA").getchannel("A").resize(background.size))
    return background, mask if mask.getbbox() else None


def check_picture(file: str | None) -> pathlib.Path | None:
    """Return where an uploaded picture is; None if there is none.

    Raises:
        UsageError: If it is no picture, or only the beginning of one; names the file.
    """
    if file is None:
        return None
    path = pathlib.Path(file)
    try:
        with Image.open(path, formats=FORMATS) as there:
            there.load()
    except Image.DecompressionBombError as error:
        raise UsageError(
            "this picture has more pixels than this page takes", remedy="Shrink it", file=path.name
        ) from error
    except Exception as error:  # Pillow raises a dozen kinds on damaged files
        raise UsageError(
            "this is no picture that can be read", remedy="Choose another file (png, jpg, webp ...)", file=path.name
        ) from error
    return path


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
    sans, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gradio().themes.Base(primary_hue="teal", neutral_hue="stone", font=sans, font_mono=mono, radius_size="sm")


NARROW = 3
"""Columns up to which long cells get several lines."""
LINE, LETTER, PADDING, ROOM = 44, 9, 28, 672
"""Letters of such a line; pixels of a letter, around a cell, and of the column in which results stand."""


def outputs(kind: "OutputKind", tab: "Tab") -> list[Any]:
    """Return what shows a kind of result; all is hidden until there is something."""
    gr = gradio()
    hidden = {"visible": False, "interactive": False}
    match kind.value:
        case "pictures":
            look = {"buttons": ["download", "fullscreen"], "min_width": 240, "elem_classes": "shown"}
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
            return [gr.File(label="To download", file_count="multiple", **hidden)]
    return [gr.HTML("", visible=False)]


def updates(tab: "Tab", result: "TabResult") -> list[Any]:
    """Return what all outputs show, in their order."""
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
    """Show a table, or hide it; few columns get the width that their cells need, and several lines."""
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
    """Return widths that cut no word: of the longest cell up to a line; the widest column takes what is left."""
    columns = [*zip(table.columns, *table.cells, strict=True)]
    words = [max(len(word) for cell in column for word in (cell.split() or [""])) for column in columns]
    cells = [min(max(map(len, column)), LINE) for column in columns]
    widths = [max(word, cell) * LETTER + PADDING for word, cell in zip(words, cells, strict=True)]
    widths[widths.index(max(widths))] += max(0, ROOM - sum(widths))
    return [f"{width}px" for width in widths]


def _numbers(rows: "TextTable | None") -> str:
    """Write a table that is seen as a whole at any width; what has no letters stays in one line."""
    if rows is None:
        return ""

    def cell(text: str) -> str:
        kind = "" if any(map(str.isalpha, text)) else ' class="number"'
        return f"<td{kind}>{html.escape(text)}</td>"

    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in rows.columns)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows.cells)
    title = f"<caption>{html.escape(rows.title)}</caption>" if rows.title else ""
    return f'<table class="numbers">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _iframe(page: str) -> str:
    """Put a page into a frame of its own, in which nothing runs; ours may see how high it is."""
    if not page:
        return ""
    inside = html.escape(page, quote=True)
    return f'<iframe class="report" title="Report" sandbox="allow-same-origin" srcdoc="{inside}"></iframe>'


def message_html(text: str, *, is_error: bool = False) -> str:
    """Write lines for people; what is wrong stands out."""
    if not text:
        return ""
    lines = "<br>".join(map(html.escape, text.splitlines()))
    return f'<p class="{"wrong" if is_error else "note"}" role="{"alert" if is_error else "status"}">{lines}</p>'
