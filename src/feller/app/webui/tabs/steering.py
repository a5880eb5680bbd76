"""Steer samples by a reward: one of the model's own data, or one that was named where the page was started."""

import importlib.util
from collections.abc import Mapping
from typing import Any, cast

from feller.app.reporter import Tell
from feller.app.webui.controls import Choice, Control, Number
from feller.app.webui.loaded_run import Opened, last_part
from feller.app.webui.sample_views import drawn_of, pictures, place_in, rows_in
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Rows, Tab, given_of, guidance_of, guides
from feller.app.webui.tabs.sample import in_time, seeded
from feller.control.rewards.chemistry import MEASURED
from feller.control.rewards.named_rewards import CODE, SIDES, image_wishes
from feller.data.crystals.modality import Crystals
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.molecules.modality import Molecules
from feller.data.points.points import Points

MOST = 16
"""Samples, each of which has a search of its own."""
STEPS, MOST_STEPS = 20, 50
INK, NEAR = "ink", "ink as set below"
USUAL_INK = 0.4
"""Mean level that is wished for at first, of 0 to 1: bold digits, whose own mean is 0.31."""
BEHIND = 1000
"""Points that are seen behind those that were steered."""
ENDLESS = (
    "Without a value to end at, wishes such as plain ink go on until pictures are blots. Compressibility is minus the"
    " kilobytes of a picture as PNG: more of it makes pictures plainer, less of it busier."
)
OFFER = "Whoever starts this page with `feller serve` can offer such a wish, which is then in the list."


def _rewards(one: Opened, place: Place) -> dict[str, str]:
    """Return rewards in words, by what people call them."""
    modality = cast(Modality, one.modality)
    plain = image_wishes(modality)
    own = {NEAR: f"{INK} == {{{INK}:g}}"} if INK in plain else {}
    own |= {name: name for name in plain}
    own |= {f"less {name}": f"-1 * {name}" for name in plain}
    if isinstance(modality, Molecules) and importlib.util.find_spec("rdkit") is not None:
        own |= {f"{name} (rdkit)": f"rdkit={name}" for name in MEASURED}
    if isinstance(modality, Crystals) and importlib.util.find_spec("chgnet") is not None:
        own |= {"low energy (CHGNet)": "-1 * chgnet=energy"}
    if isinstance(modality, Images) and one.run.judge.is_file():
        own |= {f"class {name}": f"class={name}" for name in modality.classes if "," not in name}
    return {**{last_part(words): words for words in place.rewards}, **own}


def _has(one: Opened, place: Place) -> bool:
    if not one.is_plain or not in_time(one) or one.about is None:
        return False
    return not one.about.path.is_discrete and bool(_rewards(one, place))


def _tab(one: Opened, place: Place) -> Tab:
    modality, rewards = cast(Modality, one.modality), _rewards(one, place)

    def does(answers: Answers, tell: Tell) -> Outcome:
        from feller.app.workflows.steer import steer  # takes long to load

        room, given, guidance = place.scratch.room(), given_of(answers, modality), guidance_of(answers)
        words = _wish(rewards, answers)
        behind = None
        if isinstance(modality, Points):
            asked = {"seed": answers["seed"], "n": BEHIND}
            behind, _ = drawn_of(one, place, asked, tell, given=given, guidance=guidance)
        found = steer(
            one.run,
            (words,),
            answers["n"],
            out=str(place_in(room, modality)),
            given=given,
            guidance=guidance,
            steps=answers["steps"],
            seed=answers["seed"],
            tell=tell,
        )
        told, offer = _told(found.numbers), OFFER if _goes_on(words) else ""
        if one.is_rows:
            return Outcome(said=offer, table=rows_in(found.place), numbers=told, files=(found.place,))
        grey = "" if behind is None else ", and any samples in grey"
        captions = tuple(f"{caption}{grey}" for caption in ("Before", "Steered"))
        shown = pictures((found.before, found.after), room, captions, behind)
        return Outcome(said=offer, pictures=shown, numbers=told, files=(found.place,))

    return Tab(
        about="Look for samples that are more as wished. Each is searched for by itself; the model stays as it is.",
        controls={
            "reward": Choice(
                label="Wish",
                hint=ENDLESS if NEAR in rewards else "",
                options=tuple(rewards),
                value=next(iter(rewards)),
                flags=("--reward",),
            ),
            **_bounds(rewards),
            "n": Number(label="How many", value=4, least=1, most=MOST),
            "steps": Number(
                label="Steps",
                hint="Of each search, at most.",
                value=STEPS,
                least=1,
                most=MOST_STEPS,
                flags=("--steps",),
            ),
            **guides(one),
            "seed": seeded(),
        },
        does=does,
        shows=(Kind.TABLE if one.is_rows else Kind.PICTURES, Kind.FILES, Kind.NUMBERS),
        button="Steer",
        pictures=2,
    )


def _bounds(rewards: Mapping[str, str]) -> dict[str, Control]:
    """Return where the ink of pictures is to end."""
    if NEAR not in rewards:
        return {}
    hint = "Mean level, from 0, black, to 1, white, that pictures are to come near."
    ends = {"least": 0.0, "most": 1.0, "whole": False, "only": ("reward", NEAR)}
    return {INK: Number(label="Ink", hint=hint, value=USUAL_INK, **ends)}


def _wish(rewards: Mapping[str, str], answers: Answers) -> str:
    """Return what was wished for in words, as `feller steer` takes it."""
    words = rewards[answers["reward"]]
    return words.format(**{INK: answers[INK]}) if answers["reward"] == NEAR else words


def _goes_on(words: str) -> bool:
    """Tell whether a wish of one's own has nothing that it ends at."""
    return CODE in words and not any(side in words for side in SIDES)


def _told(numbers: Mapping[str, Any]) -> Rows:
    """Return the numbers of a search as a report calls them, and what they mean."""
    from feller.app.workflows.reporting.steering_report import EXPLAIN  # takes long to load
    from feller.evaluation.report.metrics import FACTS, measure, spoken

    named = {name: measure(name, numbers) for name in numbers if name not in FACTS}
    told = tuple((how.label, how.text(numbers[name]), spoken(name, numbers, EXPLAIN)) for name, how in named.items())
    return Rows(("number", "value", "meaning"), told)


STEER = Ability(name="Steer", has=_has, tab=_tab)
