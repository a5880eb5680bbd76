"""From a model and a wish to a model that meets it."""

import contextlib
import hashlib
import pathlib
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from feller import __version__
from feller.app.config import TuneConfig, in_words
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.bridges.is_bridge import refuse_bridge
from feller.app.workflows.evaluate import evaluate
from feller.app.workflows.fine_tuned_run import (
    Tuned,
    base_model,
    check_again,
    knows_objective,
    needs_again,
    own_code,
    recipe_of,
    rule_of,
    tuned_of,
)
from feller.app.workflows.fitting.plan_fit import check_duration, with_budget
from feller.app.workflows.fitting.run_training import (
    TrainingInputs,
    TrainingJob,
    record,
    reporting,
    restore,
    run_training,
)
from feller.app.workflows.hugging_face import outdated
from feller.app.workflows.next_steps import evaluating
from feller.app.workflows.reporting.steering_report import tuned_alone
from feller.app.workflows.run_config import read_again, record_of
from feller.app.workflows.run_status import run_numbers
from feller.app.workflows.steering.reward_specs import recorded_wish, wish, without_gradient
from feller.control.fine_tuning.tuning_objective import FineTuning
from feller.control.rewards.named_rewards import RewardSum, StateReward
from feller.control.rewards.reward import evaluate_reward
from feller.core.errors import InputError, UsageError
from feller.core.interrupts import sigterm_as_interrupt
from feller.core.rng import Rng
from feller.core.run_folder import Run, target_run
from feller.core.serialization import replace_file, to_dict
from feller.data.batches import Batch
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Dataset
from feller.evaluation.evaluation_budget import EvaluationBudget, kind_of_report
from feller.evaluation.tuning_metrics import MIN_TILTED_FRACTION, condition_groups, reward_scale_warning, tilted_reward
from feller.models.model import Model, load_model
from feller.models.recipes.fine_tuning_methods import DEFAULT_METHOD, GRADIENT_FREE_METHOD, fine_tuning_recipe
from feller.models.recipes.recipe import Recipe
from feller.networks.blocks.lora import LoRA
from feller.networks.network_config import count_parameters
from feller.training.checkpoint import read_counters
from feller.training.couplings import GlobalBatchCoupling, IndependentCoupling
from feller.training.engine import Engine, get_engine
from feller.training.loop import BatchFn, StepMetrics, check_finite, make_train_state
from feller.training.objective import TrainingContext
from feller.training.optimizer import TrainConfig
from feller.training.parallelize import check_parallelize
from feller.training.trainer import StepMonitor

FIRST, LEAST_SECONDS, MOST_SECONDS = 512, 1.0, 10.0
"""Samples of the base whose reward is measured before anything is tuned; fewer where these take longer than a fifth of
the rounds, or than these bounds of it."""
TRIED = 2
"""Examples of a trial."""
KEPT = 4
"""Files of samples that the run of a base keeps."""
BEYOND, EXPLAINED = 10.0, 1.0
"""How many times the divergence from the base may be what the reward explains, and nats that are explained anyway."""


def tune(
    run: Run,
    config: TuneConfig,
    *,
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe,
    fields: tuple[str, ...] = (),
    tell: Tell = SILENT,
) -> tuple[Run, dict[str, Any]]:
    """Change a model so that it samples its law tilted by a reward, and write it as a run like any other.

    Args:
        run: Holds the model that is tuned, which stays as it is; or the run that goes on, which knows its base.
        config: What is asked for. By default the method is adjoint matching where the reward has a gradient, a policy
            gradient where it has none.
        change: Last word on the recipe, such as other rounds or rates.
        fields: The words of a command line that `change` does, which the report repeats.
        tell: Hears how it goes.

    Returns:
        The tuned run, and the numbers of its report.

    Raises:
        InputError: If the run or the reward is not what it must be, or tuning diverges; the last good weights are kept.
        UsageError: If an argument is wrong, or the model's data cannot be tuned.
        Interrupted: After Ctrl-C, with all saved.
    """
    report, rewards = kind_of_report(config.report), config.rewards
    resume, overwrite = config.output.resume, config.output.overwrite
    EvaluationBudget.for_report(report, 0.0)  # refuses one of no known kind
    given = in_words(config.conditions.given)

    check_duration(config.steps, config.minutes, fields)

    def budgeted(recipe: Recipe) -> Recipe:
        return change(with_budget(recipe, steps=config.steps, minutes=config.minutes))

    here = get_engine()
    out = str(run.path) if resume else config.output.out
    chosen = (
        target_run(out, f"{run.path.name}-tuned", resume=resume, overwrite=overwrite).path
        if here.is_main_process
        else ""
    )
    target = Run(pathlib.Path(here.broadcast_str(str(chosen))))
    if resume:
        tuned, recipe, base, wanted = _continue(target, rewards, budgeted)
    elif target.path.resolve() == run.path.resolve():
        raise UsageError("is the run that is tuned", remedy="Choose another --out", file=run.path)
    else:
        refuse_bridge(run, "tuned")
        base = load_model(run)
        wanted = wish(run, base.spec.modality, rewards)
        name = config.method or _method(base, wanted, rewards, tell)
        tuned = Tuned(
            base=str(run.path),
            rewards=rewards,
            code=own_code(rewards),
            method=name,
            given=given,
            rank=config.rank,
            seed=config.seed,
        )
        recipe = budgeted(fine_tuning_recipe(name, base, config.strength, config.conditions.guidance))
    tuned = replace(tuned, fields=(*tuned.fields, *fields))
    if recipe.train.steps is None and recipe.train.minutes is None:
        raise UsageError(expected="a budget: --steps or --minutes")
    source = target if resume else run
    with tell.waiting("reading the data"):
        gone = _gone(source, base)
    if gone:
        tell.say(f"the report will show no data beside the samples: {gone}; tune in the folder of the fit to have them")
    job, inputs = _prepare(source, target, tuned, recipe, base, wanted, here, tell)
    here.barrier()  # whoever refuses does so before anything is written
    with target.acquire(resume=resume, overwrite=overwrite) if here.is_main_process else contextlib.nullcontext():
        if here.is_main_process and not resume:
            _keep(source, target)
        here.barrier()
        restore(target, job, resume=resume, exhausted=False, tell=tell)
        here.barrier()  # until all have read what the first will write
        record(target, job, here, tell)
        run_training(target, job, inputs, here, tell)
        here.barrier()  # until the first process has written what all will read
        with sigterm_as_interrupt() if gone else reporting("the tuning", evaluating(target, record_of(target), {})):
            effort = EvaluationBudget.for_report(report, read_counters(target)["seconds"])
            if report == "none":
                numbers = run_numbers(target)
            elif gone:
                numbers = tuned_alone(target, wanted, gone, effort, tell)
            else:
                numbers = evaluate(target, wanted=wanted, effort=effort, tell=tell)
        for line in outdated(target) if resume else ():
            tell.say(line)
    return target, numbers


def _continue(
    run: Run, rewards: tuple[str, ...], change: Callable[[Recipe], Recipe]
) -> tuple[Tuned, Recipe, Model, RewardSum]:
    """Return what a tuned run was asked for, with its recipe, the model that it began with, and its wish."""
    tuned = tuned_of(run)
    if tuned is None:
        raise UsageError("was not tuned", remedy=f"Resume it with: feller fit --resume --out {run.path}", file=run.path)
    check_again(tuned, rewards)
    base = base_model(run)
    modality = base.spec.modality
    wanted = wish(run, modality, rewards) if rewards else recorded_wish(run, modality, tuned.rewards)
    return tuned, change(recipe_of(run)), base, wanted


def _gone(run: Run, base: Model) -> str:
    """Say why the data that a run was fitted to cannot be read; nothing if they can."""
    try:
        read_again(record_of(run), base.spec.modality)
    except (InputError, UsageError) as error:
        return str(error)
    return ""


def _method(base: Model, wanted: RewardSum, rewards: Sequence[str], tell: Tell) -> str:
    """Choose by whether the reward has a gradient; say so if it has none."""
    without = without_gradient(base, wanted, rewards)
    if not without:
        return DEFAULT_METHOD
    tell.say(
        f"no gradient: {', '.join(without)}; so the reward is followed by chance alone (--method {GRADIENT_FREE_METHOD}),"
        " which takes many more rounds"
    )
    return GRADIENT_FREE_METHOD


def _prepare(
    source: Run, target: Run, tuned: Tuned, recipe: Recipe, base: Model, wanted: RewardSum, here: Engine, tell: Tell
) -> tuple[TrainingJob, TrainingInputs]:
    """Build the network, and try the reward, before anything is written."""
    about, rule = base.spec, rule_of(recipe)
    base.network.to(here.device).eval().requires_grad_(False)
    network = about.build(Rng(0))
    network.load_state_dict(base.network.state_dict())
    if tuned.rank is not None:
        network = LoRA(network, tuned.rank, Rng(tuned.seed).fold_in("rank"))
    check_parallelize(recipe.train, rule, about.architecture, here)
    learner = make_train_state(network.to(here.device), recipe.train)
    reward = StateReward(wanted, about.modality)
    objective = rule.build(TrainingContext(reference=base.network, reward=reward))
    feed = _sources(base, tuned, recipe.train.batch_size)
    tell.task("trying the reward")
    few = here.to_device(feed(0, slice(0, TRIED)))
    begun = time.monotonic()
    objective.loss(learner.network, objective.draw(few, Rng(tuned.seed).fold_in("trial"), learner.network))
    rounds = _seconds(recipe.train, here.broadcast_float(time.monotonic() - begun))
    tell.task("measuring the base")
    first, notes = _before(
        source, base, tuned, rule, reward, EvaluationBudget.fraction_of(rounds, LEAST_SECONDS, MOST_SECONDS), tell
    )
    tell.done()
    notes = (*notes, *_coupled(source))
    own = f" --reward {shlex.join(tuned.rewards)}" if needs_again(tuned) else ""
    job = TrainingJob(
        record={**record_of(source).parts, "recipe": to_dict(recipe), "tuned": to_dict(tuned)},
        summary=(
            f"{tuned.base}, tuned to {' and '.join(tuned.rewards)} at a strength of {rule.reward_scale:g} by"
            f" {tuned.method}; {count_parameters(network):,} weights change"
        ),
        notes=notes,
        config=recipe.train,
        objective=objective,
        description=about,
        state=learner,
        resume_command=f"feller tune --resume --out {shlex.quote(str(target.path))}{own}",
    )
    monitor = DivergenceMonitor(rule.reward_scale, first, target)
    return job, TrainingInputs(batches=feed, rng=Rng(tuned.seed), monitor=monitor, checkpoint_at_each_log=True)


def _coupled(source: Run) -> list[str]:
    """Say so if the model was fitted to sources that depend on the data, or may have been: noise never forgets them."""
    if not knows_objective(source.read_field(source.recipe, "recipe")):
        return ["nobody knows how the model was trained: the law aimed at is reached if its sources were independent"]
    recipe = recipe_of(source)
    coupling = getattr(recipe.objective, "coupling", IndependentCoupling())
    coupling = coupling.coupling if isinstance(coupling, GlobalBatchCoupling) else coupling
    if isinstance(coupling, IndependentCoupling) and not recipe.reflow_pairs:
        return []
    how = "pairs of an older model" if recipe.reflow_pairs else type(coupling).__name__
    return [
        f"the model was fitted with {how}, not with independent sources: the law aimed at is reached nearly, at best"
    ]


def _sources(base: Model, tuned: Tuned, size: int) -> BatchFn:
    """Return what gives each round its source points and conditions, by the number of the round and of the row."""
    about = base.spec

    def batch(step: int, rows: slice) -> Batch:
        first, last, _ = rows.indices(size)
        draws = Rng(tuned.seed, first, size).fold_in("sources", step)
        given = about.modality.add_derived_conditions(base.sample_conditions(last - first, tuned.given, draws))
        return {"x_0": about.space.sample_base(last - first, draws.stream("source")), "given": given}

    return batch


def _seconds(training: TrainConfig, trial: float) -> float:
    """Return about how long all rounds take, at least; a trial of a few examples says how long one takes."""
    return 60 * training.minutes if training.steps is None and training.minutes else trial * (training.steps or 1)


def _before(
    source: Run, base: Model, tuned: Tuned, rule: FineTuning, reward: StateReward, effort: EvaluationBudget, tell: Tell
) -> tuple[float, tuple[str, ...]]:
    """Return the mean reward of the base, and what is to be expected of tuning."""
    drawn = _samples_of(source, base, tuned, rule.guidance, effort, tell)
    with torch.no_grad():
        state = base.spec.modality.encode(drawn.values)
        found = evaluate_reward(reward, state, drawn.given).double()
    mean, (tilted, share) = found.mean().item(), tilted_reward(found, rule.reward_scale, condition_groups(drawn))
    told = (
        f"estimated from {len(drawn)} samples: reward of the base about {mean:.4g}; of the law aimed at about"
        f" {tilted:.4g}, like {share:.1%} of its samples"
    )
    return mean, (told, *([reward_scale_warning(rule.reward_scale, share)] if share < MIN_TILTED_FRACTION else []))


def _samples_of(
    source: Run, base: Model, tuned: Tuned, guidance: float, effort: EvaluationBudget, tell: Tell
) -> Dataset:
    """Return samples of the base; its run keeps them for the next tuning, whatever that is to."""
    modality, weights = base.spec.modality, source.base if source.base.is_file() else source.ema_weights
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    how = (digest, base.spec.sampling, sorted(tuned.given.items()), guidance, tuned.seed, __version__)
    place = source.base_samples / f"{hashlib.sha256(repr(how).encode()).hexdigest()[:16]}.npz"
    if get_engine().broadcast_float(float(place.is_file())):
        with contextlib.suppress(InputError):  # it is drawn anew where it was damaged
            values, given = read_samples(place, modality)
            return Dataset(values, given, modality)
    draws, drawn = Rng(tuned.seed).fold_in("before"), dict[int, Dataset]()

    def draw(n: int) -> None:
        given = base.sample_conditions(n, tuned.given, draws)
        drawn[n] = base.sample_dataset(n, given=given, guidance=guidance, rng=draws, on_progress=tell.progress)

    n = effort.num_affordable(FIRST, 1.0, draw, get_engine())
    if n not in drawn:
        draw(n)
    if get_engine().is_main_process and place.suffix in modality.writers and not modality.has_own_loader:
        with contextlib.suppress(InputError, OSError):  # a run that cannot be written to is tuned as well
            for old in sorted(source.base_samples.glob("*.npz"))[KEPT - 1 :]:
                old.unlink()
            modality.write(drawn[n].values, drawn[n].given, place)
    return drawn[n]


def _keep(source: Run, target: Run) -> None:
    """Copy what the tuned run compares itself with: the first weights, and the judge of the pictures."""
    replace_file(target.base, source.ema_weights.read_bytes())
    if source.judge.is_file():
        replace_file(target.judge, source.judge.read_bytes())


class DivergenceMonitor(StepMonitor):
    """Refuses a step whose loss is no number, or that left the base further than its reward can explain."""

    def __init__(self, strength: float, first: float, run: Run) -> None:
        self.strength, self.first, self.run = strength, first, run

    def check(self, metrics: StepMetrics) -> None:
        """Refuse it."""
        try:
            check_finite(metrics)
        except InputError as error:
            raise InputError(f"tuning diverged: {error}; {self.run.path} keeps the last good weights") from error
        reward, cost = (metrics.extras.get(name) for name in ("reward", "cost"))
        if reward is None or cost is None:
            return
        explained = max(self.strength * (reward.item() - self.first), EXPLAINED)
        if not cost.item() <= BEYOND * explained:
            raise InputError(
                f"tuning diverged at step {metrics.step}: {cost.item():.4g} nats from the base, where the reward"
                f" explains {explained:.4g}; {self.run.path} keeps the weights of an earlier step. A lower --strength"
                f" (now {self.strength:g}) or rate (--train.lr {metrics.lr / 3:.1g}) helps"
            )
