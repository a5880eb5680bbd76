"""How controls look, in Gradio."""

from collections.abc import Callable
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
from feller.app.webui.tab import Place
from feller.core.errors import InputError, UsageError


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
