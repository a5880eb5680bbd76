"""Tab: watch samples form on their way from noise to data."""

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from feller.app.reporter import Reporter
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import draw, enlarge
from feller.app.webui.tab import (
    Answers,
    CaptionedImage,
    OutputKind,
    PageContext,
    Tab,
    TabResult,
    TextTable,
    condition_controls,
)
from feller.app.webui.widgets import number, seed
from feller.core.pytree import State
from feller.data.modality import Modality
from feller.data.text.modality import Text

DEFAULT_NFE = 32
LAST_FRAME_MS = 1500
"""Milliseconds for which the end is shown."""
FRAME_MS = 120
"""And each time before."""
BAND, LETTER, GAP = 28, 16, 8
"""Height of the band that the time stands in, of its letters, and how far it is from the edge, in pixels."""
MISSING = "·"
"""A symbol that is not decided yet."""


def watch_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that shows samples on their way."""
    most, text = run.display.max_animated, run.modality_as(Text)
    if run.modality is None or not (run.is_sampled and run.in_time and most):
        return None
    modality: Modality = run.modality

    def watch(answers: Answers, reporter: Reporter) -> TabResult:
        from feller.evaluation.report.embedded_picture import make_animation  # takes long to load

        trajectory: list[tuple[float, State]] = []
        nfe = answers["nfe"]
        samples, file = draw(
            run, page, {"n": 1, **answers}, reporter, nfe=nfe, on_step=lambda t, x: trajectory.append((t, x))
        )
        if text is not None:
            return TabResult(
                table=TextTable(("time", "text"), tuple((f"{t:.2f}", partial_text(text, x)) for t, x in trajectory))
            )
        states = [(t, modality.show(modality.decode(modality.fill_undecided(x)), samples.given)) for t, x in trajectory]
        frames = [with_time(enlarge(shown), t) for t, shown in states]
        film = make_animation(frames, [*[FRAME_MS] * (len(frames) - 1), LAST_FRAME_MS], frames[-1])
        path = file.with_name("forming.webp")
        path.write_bytes(film.data)
        return TabResult(pictures=(CaptionedImage("From noise to data", path),), files=(path, file))

    unit = "line" if text else "picture"
    return Tab(
        name="Watch",
        description="See how samples form, from noise at time 0 to data at time 1.",
        controls={
            **({} if text else {"n": number("How many", 300 if most > 300 else 9, 1, most)}),
            "nfe": number("Network calls", DEFAULT_NFE, 4, 100, hint=f"One {unit} for each step."),
            **condition_controls(run),
            "seed": seed(),
        },
        handler=watch,
        outputs=(OutputKind.TABLE,) if text else (OutputKind.PICTURES, OutputKind.FILES),
        button="Watch",
    )


def with_time(frame: Image.Image, t: float) -> Image.Image:
    """Write the time above a picture."""
    whole = Image.new("RGB", (frame.width, frame.height + BAND), "white")
    whole.paste(frame.convert("RGB"), (0, BAND))
    ImageDraw.Draw(whole).text((GAP, BAND / 2), f"time {t:.2f}", "black", ImageFont.load_default(LETTER), anchor="lm")
    return whole


def partial_text(modality: Text, x: Tensor) -> str:
    """Return the first of some texts, with a dot for each symbol that is not decided yet."""
    words, run = "", []
    for symbol in x[0].tolist():
        if symbol < modality.vocabulary.vocab_size:
            run.append(symbol)
            continue
        words, run = words + modality.vocabulary.decode(run), []
        if symbol == modality.eos_token_id:
            return words
        words += MISSING
    return words + modality.vocabulary.decode(run)
