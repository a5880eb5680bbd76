"""The same network, data and steps: flow matching against regression, a loss on all frames, and other paths."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from feller.evaluation.speech.speaker_similarity import SpeakerEncoder
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.voicebox.filling import CALLS, PROMPT, WEIGHT, Heard, asked, filled, filled_part, heard
from feller_papers.voicebox.judges import alone
from feller_papers.voicebox.models import FRAMES, PATHS, Trained, measured
from feller_papers.voicebox.pieces import Pieces, parts_in
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.sounds import sound_of
from feller_papers.voicebox.spoken import columns, spoken

LOSSES = ("flow", "regression", "everywhere")
EARLY = 4
"""Calls at which paths are told apart."""
SIMILAR = 0.05
"""Share of words by which two models may differ that are called alike."""

VOICES = SpeakerEncoder()


@dataclass(frozen=True)
class Beside:
    """What judges hear, and how alike the voices of sounds are."""

    heard: Heard
    voice: float
    """Mean cosine of what Resemblyzer makes of prompts and of what is filled in."""


def losses_measured(trained: Trained) -> dict[str, Beside]:
    """Let models with different losses fill in the same words."""
    it, setting, draws = trained.digits, trained.setting, trained.draws.fold_in("losses")
    some, real = asked(it.test, setting.chains, draws), alone(it.test)
    rows = some.rows
    some_few = slice(setting.few)
    prompts = parts_in(rows.x, rows.duration, rows.word, [0] * len(rows.x), [PROMPT - 1] * len(rows.x))
    told = _voices(trained, prompts, some_few)
    found = {}
    for kind in ("real", *LOSSES):
        x = rows.x if kind == "real" else filled(trained.network(kind), FRAMES[kind].path, some, draws)
        made = _voices(trained, filled_part(some, x), some_few)
        found[kind] = Beside(heard(trained.judges, some, x, real), float((told * made).sum(1).mean()))
        if kind == "real":
            speaker = rows.speaker[some_few]
            other = speaker[:, None] != speaker[None]
            apart = float((told @ made.T)[other].mean()) if other.any() else 0.0
            found["others"] = Beside(found[kind].heard, apart)
    return found


def _voices(trained: Trained, pieces: Pieces, which: slice) -> Float[Tensor, "n f"]:
    pairs = zip(pieces.x[which], pieces.valid[which], strict=True)
    return VOICES.embed([sound_of(mel[valid], trained.digits) for mel, valid in pairs])


@spoken("flow matching copies voices better than regression", "similarity .597, regression .520; error 2.1 and 2.0 %")
def losses(setting: Setting) -> Iterator[Claim]:
    """Voices and words of flow matching, regression, and a loss on all frames."""
    found = measured(setting, losses_measured)
    words = {"real": "real", "flow": "flow", "everywhere": "flow, loss on all frames", "regression": "regression"}

    def named(value: str) -> str:
        each = {
            kind: [vars(one[kind] if value == "voice" else one[kind].heard)[value] for one in found] for kind in words
        }
        return ", ".join(f"{words[kind]} {mean_of(values, 3)}" for kind, values in each.items())

    figures = (
        f"Resemblyzer: {named('voice')}, other speakers {mean_of([one['others'].voice for one in found], 3)}; by a"
        f" small network: {named('alike')}"
    )
    gaps = [one["flow"].voice - one["regression"].voice for one in found]
    yield Claim(
        "flow matching is more like the voice of the prompt than regression, with the same network",
        "similarity .597 against .520",
        f"similarity by {figures}; {setting.short:,} steps each",
        f"{spread_of(gaps)}, more by Resemblyzer",
        verdict(min(gaps) > 0),
    )
    gaps = [one["flow"].heard.accuracy - one["regression"].heard.accuracy for one in found]
    yield Claim(
        "words of flow matching and of regression are understood alike",
        "word error rate 2.1 and 2.0 %",
        f"words that are right: {named('accuracy')}",
        f"{spread_of(gaps)}, more of flow matching; asked to be within {SIMILAR:g}",
        verdict(max(map(abs, gaps)) <= SIMILAR),
    )
    gaps = [one["regression"].heard.distance - one["flow"].heard.distance for one in found]
    yield Claim(
        "words of flow matching lie closer to real ones than those of regression",
        "FSD 242.5 against 278.8",
        f"FD-cnn: {named('distance')}",
        f"{spread_of(gaps)}, less of flow matching",
        verdict(min(gaps) > 0),
    )
    gaps = [one["flow"].voice - one["everywhere"].voice for one in found]
    yield Claim(
        "a loss on hidden frames copies voices better than one on all",
        "similarity .597 against .528; word error rate 2.1 and 2.0 %",
        f"similarity by {figures}",
        f"{spread_of(gaps)}, more by Resemblyzer",
        verdict(min(gaps) > 0),
    )


def paths_measured(trained: Trained) -> dict[str, tuple[Heard, ...]]:
    """Let models of different paths fill in the same words, by the number of calls."""
    it, setting, draws = trained.digits, trained.setting, trained.draws.fold_in("paths")
    some, real = asked(it.test, setting.chains, draws), alone(it.test)
    found = {}
    for kind in PATHS:
        network, path = trained.network(kind), FRAMES[kind].path
        drawn = (filled(network, path, some, draws, calls=calls) for calls in setting.calls)
        found[kind] = tuple(heard(trained.judges, some, x, real) for x in drawn)
    return found


@spoken("the linear path needs fewer calls", "word error rate at 4 calls 2.4, diffusion 11.5, score matching 94.5 %")
def paths(setting: Setting) -> Iterator[Claim]:
    """The linear path, the diffusion path and score matching, by the number of calls."""
    found = measured(setting, paths_measured)
    place = setting.calls.index(EARLY)
    at = {kind: [one[kind][place].accuracy for one in found] for kind in PATHS}

    def table(name: str) -> str:
        each = {kind: columns([getattr(row, name) for row in one[kind]] for one in found) for kind in PATHS}
        return "; ".join(f"{words} {each[kind]}" for kind, words in PATHS.items())

    calls = ", ".join(map(str, setting.calls))
    gaps = [a - b for a, b in zip(at["flow"], at["diffusion"], strict=True)]
    yield Claim(
        f"at {EARLY} calls the linear path is better than the diffusion path",
        "word error rate by 4, 8, 16, 32 calls: 2.4, 2.2, 2.2, 2.1 against 11.5, 3.0, 2.7, 2.6 %",
        f"words that are right by {calls} calls: {table('accuracy')}; guidance {WEIGHT:g}, {setting.short:,} steps",
        f"{spread_of(gaps)}, more of the words at {EARLY} calls",
        verdict(min(gaps) > 0),
    )
    gaps = [b - c for b, c in zip(at["diffusion"], at["score"], strict=True)]
    yield Claim(
        f"at {EARLY} calls score matching is the worst",
        "word error rate by 4, 8, 16, 32 calls: 94.5, 42.3, 11.5, 5.1 %",
        f"similarity by a small network, by {calls} calls: {table('alike')}",
        f"{spread_of(gaps)}, fewer of the words than the diffusion path",
        verdict(min(gaps) > 0),
    )
    last = setting.calls.index(CALLS)
    gaps = [one["flow"][last].accuracy - max(row.accuracy for row in one["flow"]) for one in found]
    yield Claim(
        f"the linear path is as good at {CALLS} calls as at any number",
        "word error rate 2.2 % at 8 calls, 2.1 % at 32",
        f"FD-cnn by {calls} calls: {table('distance')}",
        f"{spread_of(gaps)}, more of the words than at the best; asked to be at least {-SIMILAR:g}",
        verdict(min(gaps) >= -SIMILAR),
    )
