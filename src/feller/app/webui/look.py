"""How the page looks, and what it does by itself."""

from importlib import resources
from typing import Any

from feller.data.speech.optional_dependency import need


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
