"""Tab "Watch": animation of the sampling process from noise to data."""

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from feller.app.reporter import Reporter
from feller.app.webui.condition_controls import condition_controls
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import draw, enlarge
from feller.app.webui.tab import Answers, CaptionedImage, OutputKind, PageContext, Tab, TabResult, TextTable
from feller.app.webui.widgets import number, seed
from feller.core.pytree import State
from feller.data.modality import Modality
from feller.data.text.modality import Text

DEFAULT_NFE = 32
LAST_FRAME_MS = 1500
"""Duration of the last frame of the animation in milliseconds."""
FRAME_MS = 120
"""Duration of every other frame in milliseconds."""
BAND, LETTER, GAP = 28, 16, 8
"""Height of the band with the time label, font size of the label, and left margin of the label, in pixels."""
MISSING = "·"
"""Character shown for a masked token."""


def watch_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that animates the sampling process; None if the samples of the run cannot be animated."""
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

    unit = "line" if text else "frame"
    return Tab(
        name="Watch",
        description="Animation of sampling, from noise at time 0 to data at time 1.",
        controls={
            **({} if text else {"n": number("Number of samples", 300 if most > 300 else 9, 1, most)}),
            "nfe": number("Network evaluations", DEFAULT_NFE, 4, 100, hint=f"One {unit} per step."),
            **condition_controls(run),
            "seed": seed(),
        },
        handler=watch,
        outputs=(OutputKind.TABLE,) if text else (OutputKind.PICTURES, OutputKind.FILES),
        button="Watch",
    )


def with_time(frame: Image.Image, t: float) -> Image.Image:
    """Return the frame with a band added above that shows the time t."""
    whole = Image.new("RGB", (frame.width, frame.height + BAND), "white")
    whole.paste(frame.convert("RGB"), (0, BAND))
    ImageDraw.Draw(whole).text((GAP, BAND / 2), f"time {t:.2f}", "black", ImageFont.load_default(LETTER), anchor="lm")
    return whole


def partial_text(modality: Text, x: Tensor) -> str:
    """Return the first text of a batch, with a dot in place of each masked token."""
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
