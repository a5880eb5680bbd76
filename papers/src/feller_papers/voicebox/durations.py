"""How long phones last: regression, flow matching, and regression that is told no duration."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.evaluation.speech.duration_metrics import NUM_SAMPLES, PhoneDurations, durations_quality
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.voicebox.chains import Rows, joined
from feller_papers.voicebox.filling import asked
from feller_papers.voicebox.models import LENGTHS, Trained, measured
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import spoken

HALF = 3
"""Words that are told, and as many are filled in."""
MORE = 5
"""Times as many chains as elsewhere: they cost little."""


@dataclass(frozen=True)
class Lasting:
    """How durations compare with the truth."""

    error: float
    """Mean absolute error of hidden phones, in frames."""
    correlation: float
    """Over chains, of the mean of what is filled in and the mean of what is told; 0 where either is always the same."""
    distance: float
    """Squared Fréchet distance of all durations, seen as normal, to those of training data."""


def compared(guessed: Int64[Tensor, "k b m"], rows: Rows, hidden: Bool[Tensor, "b m"], train: Rows) -> Lasting:
    """Compare draws of durations with the truth, in phones; correlation counts silences, too.

    Args:
        guessed: Draws of the durations.
        rows: The truth.
        hidden: What was filled in.
        train: Training data.
    """
    about, known = (
        PhoneDurations(each.phone.where(each.real, -1), each.duration, marks)
        for each, marks in ((rows, hidden), (train, train.real))
    )
    found = durations_quality(guessed, about, known)
    names = ("phone_mae", "duration_correlation", "phone_fdd")
    return Lasting(*(found[name] or 0.0 for name in names))


def measure(trained: Trained) -> dict[str, Lasting]:
    """Let each model fill in the second half of held-out chains."""
    it, draws = trained.digits, trained.draws.fold_in("durations")
    some = asked(it.test, MORE * trained.setting.chains, draws, HALF, HALF)
    rows, hidden = some.rows, some.hidden
    train = joined([(clip,) for clip in it.train])
    found = {"truth": compared(rows.duration[None], rows, hidden, train)}
    for kind in LENGTHS:
        samples = NUM_SAMPLES if kind == "drawn" else 1
        kept = some.kept if kind != "alone" else torch.zeros_like(some.kept)
        drawn = [trained.lasting(kind, rows, kept, draws.fold_in(kind, i)) for i in range(samples)]
        found[kind] = compared(torch.stack(drawn), rows, hidden, train)
    return found


@spoken("models of durations: error, correlation and distance", "regression 2.45, .35; flow .41 of .47")
def kinds(setting: Setting) -> Iterator[Claim]:
    """Which model of durations is nearest, which follows the prompt, and which has the right spread."""
    found = measured(setting, measure)

    def of(kind: str, name: str) -> list[float]:
        return [getattr(one[kind], name) for one in found]

    def named(name: str) -> str:
        words = {"truth": "truth", "at once": "regression", "drawn": "flow", "alone": "told none"}
        return ", ".join(
            f"{words[kind]} {mean_of(of(kind, name), 3)}" for kind in ("truth", "alone", "at once", "drawn")
        )

    gaps = [min(one["drawn"].error, one["alone"].error) - one["at once"].error for one in found]
    yield Claim(
        "durations by regression that is told others have the least error",
        "error of a phone, in frames: told none 2.57, regression 2.45, flow 2.52",
        f"error of a phone, in frames: {named('error')}",
        f"{spread_of(gaps)}, from regression to the next",
        verdict(min(gaps) > 0),
    )
    gaps = [min(one["drawn"].correlation, one["at once"].correlation) - one["alone"].correlation for one in found]
    yield Claim(
        "durations follow those of the prompt, and more so where the model is told them",
        "correlation: truth .47, told none .26, regression .35, flow .41",
        f"correlation over chains: {named('correlation')}",
        f"{spread_of(gaps)}, from the one that is told none to the lower of the others",
        verdict(min(gaps) > 0),
    )
    gaps = [min(one["at once"].distance, one["alone"].distance) - one["drawn"].distance for one in found]
    yield Claim(
        "durations that are drawn have the least Fréchet distance to those of the data",
        "told none .72, regression .76, flow .61",
        f"squared frames: {named('distance')}",
        f"{spread_of(gaps)}, from the flow to the next",
        verdict(min(gaps) > 0),
    )
