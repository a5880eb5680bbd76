"""Tab "Steer": optimises samples for a built-in reward, or for a reward from the command line."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from feller.app.config import SteerConfig
from feller.app.option_groups import FlowOptions
from feller.app.reporter import Reporter
from feller.app.webui.condition_controls import condition_controls, conditions_from, guidance_from
from feller.app.webui.loaded_run import LoadedRun, file_name
from feller.app.webui.sample_views import draw, draw_picture_pair, kinds_of, metric_table, read_rows, sample_path
from feller.app.webui.tab import Answers, OutputKind, PageContext, Tab, TabResult
from feller.app.webui.widgets import choice, number, seed, visible
from feller.control.rewards.molecule_rewards import PROPERTIES
from feller.control.rewards.named_rewards import BOUND_VIOLATIONS, image_rewards, is_user_reward
from feller.data.crystals.modality import Crystals
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.molecules.modality import Molecules
from feller.data.points.euclidean_points import Points

MAX_SAMPLES = 16
"""Maximum number of steered samples per request; each sample is optimised separately."""
STEPS, MAX_STEPS = 20, 50
INK, TARGET_INK = "ink", "target ink, set below"
USUAL_INK = 0.4
"""Default target of the mean pixel level in [0, 1]; for comparison, images of digits have a mean of 0.31."""
BACKGROUND_POINTS = 1000
"""Number of unsteered samples drawn in grey behind the steered points."""
ENDLESS = (
    "Without a target value, rewards such as ink are overoptimized until images degenerate. Compressibility is minus"
    " the PNG size in kilobytes: more gives simpler images, less more complex ones."
)
OFFER = "Rewards with a bound can be added with `feller serve --reward`; they then appear in the list."


def rewards_of(run: LoadedRun, modality: Modality, offered: tuple[str, ...]) -> dict[str, str]:
    """Return the rewards that visitors can select: label -> reward as text, as for `feller steer --reward`.

    Rewards from the command line (`offered`) come first, then the built-in rewards of the modality.
    """
    plain = image_rewards(modality)
    own = {TARGET_INK: f"{INK} == {{{INK}:g}}"} if INK in plain else {}
    own |= {name: name for name in plain}
    own |= {f"less {name}": f"-1 * {name}" for name in plain}
    if run.modality_as(Molecules) is not None and importlib.util.find_spec("rdkit") is not None:
        own |= {f"{name} (rdkit)": f"rdkit={name}" for name in PROPERTIES}
    if run.modality_as(Crystals) is not None and importlib.util.find_spec("chgnet") is not None:
        own |= {"low energy (CHGNet)": "-1 * chgnet=energy"}
    if (images := run.modality_as(Images)) is not None and run.run.judge.is_file():
        own |= {f"class {name}": f"class={name}" for name in images.classes if "," not in name}
    return {**{file_name(words): words for words in offered}, **own}


def steer_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that steers samples toward a reward; None if the run does not support it."""
    modality = run.modality
    if not run.is_differentiable or modality is None or not (rewards := rewards_of(run, modality, page.rewards)):
        return None

    def search(answers: Answers, reporter: Reporter) -> TabResult:
        from feller.app.workflows.steering.reward_search import search_reward  # takes long to load

        room, conditions, weight = page.new_result_folder(), conditions_from(answers, modality), guidance_from(answers)
        words = rewards[answers["reward"]]
        words = words.format(**{INK: answers[INK]}) if answers["reward"] == TARGET_INK else words
        behind = None
        if run.modality_as(Points) is not None:
            many = {"seed": answers["seed"], "n": BACKGROUND_POINTS}
            behind, _ = draw(run, page, many, reporter, given=conditions, guidance=weight)
        config = SteerConfig(
            reward=words,
            n=answers["n"],
            out=str(sample_path(room, modality)),
            given=conditions,
            flow=FlowOptions(guidance=weight),
            steps=answers["steps"],
            seed=answers["seed"],
        )
        result = search_reward(run.run, config, reporter=reporter)
        endless = is_user_reward(words) and not any(side in words for side in BOUND_VIOLATIONS)
        message = OFFER if endless else target_message(result.numbers)
        more = {"message": message, "numbers": metric_table(result.numbers), "files": (result.path,)}
        if run.display.form == "table":
            return TabResult(table=read_rows(result.path), **more)
        grey = "" if behind is None else ", with unsteered samples in grey"
        captions = tuple(f"{caption}{grey}" for caption in ("Before", "Steered"))
        return TabResult(pictures=draw_picture_pair((result.unsteered, result.samples), room, captions, behind), **more)

    controls = {"reward": choice("Reward", tuple(rewards), hint=ENDLESS if TARGET_INK in rewards else "")}
    if TARGET_INK in rewards:
        hint = "Target mean level, from 0 (black) to 1 (white)."
        first = next(iter(rewards)) == TARGET_INK
        controls[INK] = number("Ink", USUAL_INK, 0.0, 1.0, hint=hint, is_integer=False, visible=first)
    return Tab(
        name="Steer",
        description="Optimize the source noise of samples for a reward. The model is not changed.",
        controls={
            **controls,
            "n": number("Number of samples", 4, 1, MAX_SAMPLES),
            "steps": number("Steps", STEPS, 1, MAX_STEPS, hint="Maximum optimization steps per sample."),
            **condition_controls(run),
            "seed": seed(),
        },
        handler=search,
        outputs=(*kinds_of(run), OutputKind.NUMBERS),
        button="Steer",
        max_pictures=2,
        dependent_controls={INK: ("reward", lambda sent: visible(sent == TARGET_INK))} if TARGET_INK in rewards else {},
    )


def target_message(numbers: Mapping[str, Any]) -> str:
    """Return a sentence on whether the samples reached the target of a reward such as `ink == 0.3`, and advice if not.

    `numbers` are the metrics of the reward search. The text is empty if no reward has a target.
    """
    from feller.evaluation.metrics import metric
    from feller.evaluation.report.verdict import REACHED_FRACTION, metric_verdict, target_progress

    progress = target_progress("bounded", numbers)
    if progress is None:
        return ""
    before, after, target = (
        metric(name, numbers).text(numbers.get(name)) for name in ("bounded_before", "bounded", "bounded_target")
    )
    shown = f"From {before} to {after}; target {target}: {metric_verdict('bounded', numbers)}."
    return shown if progress >= REACHED_FRACTION else f"{shown} More steps come closer."
