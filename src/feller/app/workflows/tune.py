"""Fine-tuning workflow: fine-tune a model on a reward and write it as a new run."""

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
from feller.app.config import TuneConfig, single_values
from feller.app.option_groups import ConditionOptions
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.bridges.bridge_detection import refuse_bridge
from feller.app.workflows.evaluate import evaluate
from feller.app.workflows.fine_tuned_run import (
    TuningRecord,
    base_model,
    check_same_rewards,
    code_hashes,
    fine_tuning_of,
    imported_folder,
    knows_objective,
    needs_rewards,
    read_recipe,
    read_tuning_record,
)
from feller.app.workflows.fitting.recipe_request import check_duration, with_budget
from feller.app.workflows.fitting.run_training import (
    TrainingInputs,
    TrainingJob,
    interruptible_report,
    record_job,
    restore_state,
    run_training,
)
from feller.app.workflows.hugging_face import stale_exports
from feller.app.workflows.next_steps import evaluate_command
from feller.app.workflows.reporting.steering_report import report_tuning_without_data
from feller.app.workflows.run_config import read_fit_record, reread_data
from feller.app.workflows.run_status import run_numbers
from feller.app.workflows.steering.reward_specs import nondifferentiable_rewards, parse_recorded_rewards, parse_rewards
from feller.control.fine_tuning.tuning_objective import FineTuning
from feller.control.rewards.named_rewards import RewardSum, StateReward
from feller.control.rewards.reward import evaluate_reward
from feller.core.errors import InputError, UsageError
from feller.core.interrupts import sigterm_as_interrupt
from feller.core.rng import Rng
from feller.core.run_folder import AUX_NETWORKS, Run, target_run
from feller.core.serialization import replace_file, to_dict
from feller.data.batches import Batch
from feller.data.conditions.prompts import PromptCondition
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Dataset
from feller.data.path_checks import require_exists
from feller.evaluation.evaluation_budget import EvaluationBudget, kind_of_report
from feller.evaluation.tuning_metrics import MIN_TILTED_FRACTION, condition_groups, reward_scale_warning, tilted_reward
from feller.models.model import Model, load_model
from feller.models.pretrained.diffusers_network import PROMPT
from feller.models.recipes.fine_tuning_methods import (
    DEFAULT_METHOD,
    GRADIENT_FREE_METHOD,
    TOKEN_METHOD,
    fine_tuning_recipe,
)
from feller.models.recipes.recipe import Recipe
from feller.networks.blocks.lora import LoRA
from feller.networks.network_config import count_parameters
from feller.networks.unwrapping import takes_step_end
from feller.paths.product import iter_leaf_paths
from feller.training.checkpoint import read_counters
from feller.training.couplings import GlobalBatchCoupling, IndependentCoupling
from feller.training.engine import Engine, get_engine
from feller.training.loop import BatchFn, StepMetrics, check_finite, make_train_state, split_example
from feller.training.objective import TrainingContext
from feller.training.optimizer import TrainConfig
from feller.training.parallelize import check_parallelize
from feller.training.trainer import StepMonitor

MAX_BASE_SAMPLES, MIN_BASE_SECONDS, MAX_BASE_SECONDS = 512, 1.0, 10.0
"""Limits for estimating the mean reward of the base model: maximum number of samples, minimum and maximum time in
seconds."""
TRIAL_EXAMPLES = 2
"""Number of examples in the trial of reward and objective before fine-tuning."""
MAX_CACHED_FILES = 4
"""Maximum number of files with cached samples of the base model in the base model's run folder."""
MAX_DIVERGENCE_RATIO, MIN_EXPLAINED_NATS = 10.0, 1.0
"""Maximum ratio of the divergence from the base model to the divergence that the reward gain explains, and minimum
of the latter in nats."""


def tune(
    run: Run,
    config: TuneConfig,
    *,
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe,
    field_words: tuple[str, ...] = (),
    reporter: Reporter = SILENT,
) -> tuple[Run, dict[str, Any]]:
    """Fine-tune a model toward its distribution tilted by a reward, and write it as a new run.

    Args:
        run: Run with the base model, which is not changed; or the fine-tuned run to resume.
        config: Options of `feller tune`. The default method is adjoint matching, a policy gradient if the reward has no
            gradient, or filtered for tokens.
        change: Function that modifies the recipe after all options have been applied, for example the learning rate.
        field_words: Command-line words with the same effect as `change`, for the report.
        reporter: Progress and log output.

    Returns:
        The fine-tuned run and the metrics of its report.

    Raises:
        InputError: If the run or the reward is unusable, or fine-tuning diverges; the last good weights are kept.
        UsageError: If an argument is wrong, or the model does not support fine-tuning.
        Interrupted: If fine-tuning is interrupted by Ctrl-C; the run is saved.
    """
    report, rewards = kind_of_report(config.report), config.rewards
    resume, overwrite = config.output.resume, config.output.overwrite
    EvaluationBudget.for_report(report, 0.0)  # raises an error for an unknown report type
    conditions = single_values(config.conditions.given)

    check_duration(config.steps, config.minutes, field_words)
    config.lora.check()

    def apply_budget(recipe: Recipe) -> Recipe:
        return change(with_budget(recipe, steps=config.steps, minutes=config.minutes))

    engine = get_engine()
    out = str(run.path) if resume else config.output.out
    folder = (
        target_run(out, f"{run.path.name}-tuned", resume=resume, overwrite=overwrite).path
        if engine.is_main_process
        else ""
    )
    target = Run(pathlib.Path(engine.broadcast_str(str(folder))))
    if resume:
        tuning_record, recipe, base, reward = _continue(target, rewards, apply_budget)
    elif target.path.resolve() == run.path.resolve():
        raise UsageError("is the base run", remedy="Choose another --out", file=run.path)
    else:
        refuse_bridge(run, "tuned")
        base = load_model(run)
        reward = parse_rewards(run, base.spec.modality, rewards)
        method = config.method or _method(base, reward, rewards, reporter)
        tuning_record = TuningRecord(
            base=str(run.path),
            rewards=rewards,
            code=code_hashes(rewards),
            method=method,
            given=conditions,
            folder=imported_folder(run),
            prompts=_prompts(base, config.conditions, reporter),
            rank=config.lora.rank,
            target_modules=config.lora.target_modules,
            seed=config.seed,
        )
        recipe = apply_budget(fine_tuning_recipe(method, base, config.strength, config.conditions.guidance))
    tuning_record = replace(tuning_record, fields=(*tuning_record.fields, *field_words))
    if recipe.train.steps is None and recipe.train.minutes is None:
        raise UsageError(expected="a budget: --steps or --minutes")
    source = target if resume else run
    with reporter.spinner("reading the data"):
        missing_reason = "" if report == "none" else _missing_data_reason(source, base)
    if missing_reason:
        reporter.log(
            f"the report will not compare samples with data: {missing_reason}; run in the folder of the fit to include"
            " them"
        )
    job, inputs = _prepare(source, target, tuning_record, recipe, base, reward, engine, reporter)
    engine.barrier()  # all processes validate before anything is written
    with target.acquire(resume=resume, overwrite=overwrite) if engine.is_main_process else contextlib.nullcontext():
        if engine.is_main_process and not resume:
            _copy_base_files(source, target)
        engine.barrier()
        restore_state(target, job, resume=resume, exhausted=False, reporter=reporter)
        engine.barrier()  # wait until all processes have read the state that will be overwritten
        record_job(target, job, engine, reporter)
        run_training(target, job, inputs, engine, reporter)
        engine.barrier()  # wait for the files of the main process
        with (
            sigterm_as_interrupt()
            if missing_reason
            else interruptible_report("the tuning", evaluate_command(target, read_fit_record(target), {}))
        ):
            effort = EvaluationBudget.for_report(report, read_counters(target)["seconds"])
            if report == "none":
                metrics = run_numbers(target)
            elif missing_reason:
                metrics = report_tuning_without_data(target, reward, missing_reason, effort, reporter)
            else:
                metrics = evaluate(target, reward=reward, effort=effort, reporter=reporter)
        for line in stale_exports(target) if resume else ():
            reporter.log(line)
    return target, metrics


def _continue(
    run: Run, rewards: tuple[str, ...], change: Callable[[Recipe], Recipe]
) -> tuple[TuningRecord, Recipe, Model, RewardSum]:
    """Return the fine-tuning options, recipe, base model and reward of a run to resume."""
    tuning_record = read_tuning_record(run)
    if tuning_record is None:
        raise UsageError(
            "is not a fine-tuned run",
            remedy=f"Resume the run with: feller fit --resume --out {run.path}",
            file=run.path,
        )
    check_same_rewards(tuning_record, rewards)
    base = base_model(run)
    modality = base.spec.modality
    reward = (
        parse_rewards(run, modality, rewards)
        if rewards
        else parse_recorded_rewards(run, modality, tuning_record.rewards)
    )
    return tuning_record, change(read_recipe(run)), base, reward


def _missing_data_reason(run: Run, base: Model) -> str:
    """Return the reason why the training data of the base run cannot be read; empty if they can."""
    try:
        reread_data(read_fit_record(run), base.spec.modality)
    except (InputError, UsageError) as error:
        return str(error)
    return ""


def _method(base: Model, reward: RewardSum, rewards: Sequence[str], reporter: Reporter) -> str:
    """Return the default fine-tuning method, which depends on the path and on whether the rewards have gradients."""
    if any(path.is_discrete for path in iter_leaf_paths(base.spec.path)):
        reporter.log(f"a model of tokens: using --method {TOKEN_METHOD}, which ignores --strength; stop it early")
        return TOKEN_METHOD
    without = nondifferentiable_rewards(base, reward, rewards)
    if not without:
        return DEFAULT_METHOD
    reporter.log(
        f"no gradient: {', '.join(without)}; using --method {GRADIENT_FREE_METHOD}, which estimates it from samples and"
        " needs many more rounds"
    )
    return GRADIENT_FREE_METHOD


def _prepare(
    source: Run,
    target: Run,
    tuning_record: TuningRecord,
    recipe: Recipe,
    base: Model,
    total_reward: RewardSum,
    engine: Engine,
    reporter: Reporter,
) -> tuple[TrainingJob, TrainingInputs]:
    """Build the network and try the reward, before anything is written; return the training job and its inputs."""
    spec, fine_tuning = base.spec, fine_tuning_of(recipe)
    if takes_step_end(base.network):
        raise UsageError(
            expected="a run of a flow, whose velocity is tuned",
            found="a flow map, whose steps would not follow the tuned velocity",
            remedy="Tune the run that it was distilled from, and distill again with --recipe flow-map",
            file=source.path,
        )
    base.network.to(engine.device).eval().requires_grad_(False)
    network = spec.build(Rng(0))
    network.load_state_dict(base.network.state_dict())
    if tuning_record.rank is not None:
        rng = Rng(tuning_record.seed).fold_in("rank")
        network = LoRA(network, tuning_record.rank, rng, tuning_record.target_modules)
    check_parallelize(recipe.train, fine_tuning, spec.architecture, engine)
    state = make_train_state(network.to(engine.device), recipe.train)
    reward = StateReward(total_reward, spec.modality)
    objective = fine_tuning.build(TrainingContext(reference=base.network, reward=reward))
    load = _sources(base, tuning_record, recipe.train.batch_size)
    reporter.start("trying the reward")
    batch = engine.to_device(load(0, slice(0, TRIAL_EXAMPLES)))
    start_time = time.monotonic()
    example = objective.draw(batch, Rng(tuning_record.seed).fold_in("trial"), state.network)
    for part in split_example(example, recipe.train.micro_batch):
        objective.loss(state.network, part)
    total_seconds = _seconds(recipe.train, engine.broadcast_float(time.monotonic() - start_time))
    reporter.start("estimating the reward of the base model")
    base_reward, notes = _measure_base(
        source,
        base,
        tuning_record,
        fine_tuning,
        reward,
        EvaluationBudget.fraction_of(total_seconds, MIN_BASE_SECONDS, MAX_BASE_SECONDS),
        reporter,
    )
    reporter.finish()
    notes = (*notes, *_coupling_note(source))
    reward_arguments = f" --reward {shlex.join(tuning_record.rewards)}" if needs_rewards(tuning_record) else ""
    job = TrainingJob(
        record={**read_fit_record(source).content, "recipe": to_dict(recipe), "tuned": to_dict(tuning_record)},
        summary=(
            f"{tuning_record.base}, tuned to {' and '.join(tuning_record.rewards)} at a strength of"
            f" {fine_tuning.reward_scale:g} by {tuning_record.method}; {count_parameters(network):,} weights change"
        ),
        notes=notes,
        config=recipe.train,
        objective=objective,
        description=spec,
        state=state,
        resume_command=f"feller tune --resume --out {shlex.quote(str(target.path))}{reward_arguments}",
    )
    monitor = DivergenceMonitor(fine_tuning.reward_scale, base_reward, target)
    return job, TrainingInputs(batches=load, rng=Rng(tuning_record.seed), monitor=monitor, checkpoint_at_each_log=True)


def _coupling_note(source: Run) -> list[str]:
    """Return a warning if the fit coupled source and data, since memoryless noise assumes independent sources."""
    if imported_folder(source):
        return []  # diffusers trains with independent noise
    if not knows_objective(source.read_field(source.recipe, "recipe")):
        return ["the training of the base is unknown: the tilted distribution is exact only with independent sources"]
    recipe = read_recipe(source)
    coupling = getattr(recipe.objective, "coupling", IndependentCoupling())
    coupling = coupling.coupling if isinstance(coupling, GlobalBatchCoupling) else coupling
    if isinstance(coupling, IndependentCoupling) and not recipe.reflow_pairs:
        return []
    coupling_text = "pairs of an older model" if recipe.reflow_pairs else type(coupling).__name__
    return [
        f"the base was fitted with {coupling_text}, not with independent sources: the tilted distribution is reached"
        " only approximately"
    ]


def _sources(base: Model, tuning_record: TuningRecord, size: int) -> BatchFn:
    """Return a function that samples source points and conditions by round number and row indices."""
    spec = base.spec

    def batch(step: int, rows: slice) -> Batch:
        first, last, _ = rows.indices(size)
        rng = Rng(tuning_record.seed, first, size).fold_in("sources", step)
        cond = spec.modality.add_derived_conditions(tuning_record.conditions(base, last - first, rng))
        return {"x_0": spec.space.sample_base(last - first, rng.stream("source")), "given": cond}

    return batch


def _prompts(base: Model, options: ConditionOptions, reporter: Reporter) -> tuple[str, ...]:
    """Return the prompts of a fine-tuning; a single file stands for its lines.

    Raises:
        UsageError: If the model takes no prompts, or one is given as well.
        InputError: If a file has no lines.
    """
    prompts, modality = options.prompts, base.spec.modality
    has_prompts = isinstance(modality.selected_conditions.get(PROMPT), PromptCondition)
    if not prompts:
        if has_prompts and PROMPT not in (options.given or {}):
            reporter.log("tuning with the empty prompt; name prompts with --prompts TEXT ... or --given prompt=TEXT")
        return ()
    if not has_prompts:
        others = ", ".join((*modality.conditions, *modality.selected_conditions))
        found = f"a model of {modality.display_name}" + (f" with {others}" if others else "")
        raise UsageError(argument="prompts", expected="a model with prompts", found=found)
    if PROMPT in (options.given or {}):
        raise UsageError(argument="prompts", expected="prompts, or --given prompt=TEXT", found="both")
    if len(prompts) == 1 and prompts[0].endswith(".txt"):
        file = pathlib.Path(prompts[0])
        require_exists(file, "a file of prompts")
        prompts = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        if not prompts:
            raise InputError("one prompt per line", "none", file=file)
    return prompts


def _seconds(training: TrainConfig, trial: float) -> float:
    """Return a lower bound on the training time in seconds: the time limit, or the steps times that of a trial step."""
    return 60 * training.minutes if training.steps is None and training.minutes else trial * (training.steps or 1)


def _measure_base(
    source: Run,
    base: Model,
    tuning_record: TuningRecord,
    fine_tuning: FineTuning,
    reward: StateReward,
    effort: EvaluationBudget,
    reporter: Reporter,
) -> tuple[float, tuple[str, ...]]:
    """Return the mean reward of the base model, and notes on what fine-tuning can be expected to reach."""
    samples = _base_samples(source, base, tuning_record, fine_tuning.guidance, effort, reporter)
    with torch.no_grad():
        state = base.spec.modality.encode(samples.values)
        rewards = evaluate_reward(reward, state, samples.given).double()
    mean, (tilted, tilted_fraction) = (
        rewards.mean().item(),
        tilted_reward(rewards, fine_tuning.reward_scale, condition_groups(samples)),
    )
    estimate_text = (
        f"estimated from {len(samples)} samples: mean reward of the base about {mean:.4g}; of the tilted distribution"
        f" about {tilted:.4g}, which {tilted_fraction:.1%} of its samples resemble"
    )
    return mean, (
        estimate_text,
        *(
            [reward_scale_warning(fine_tuning.reward_scale, tilted_fraction)]
            if tilted_fraction < MIN_TILTED_FRACTION
            else []
        ),
    )


def _base_samples(
    source: Run, base: Model, tuning_record: TuningRecord, guidance: float, effort: EvaluationBudget, reporter: Reporter
) -> Dataset:
    """Return samples of the base model, which are cached in its run for further fine-tunings."""
    modality, weights = base.spec.modality, source.base if source.base.is_file() else source.ema_weights
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    cache_key = (
        digest,
        base.spec.sampling,
        sorted(tuning_record.given.items()),
        *([tuning_record.prompts] if tuning_record.prompts else []),
        guidance,
        tuning_record.seed,
        __version__,
    )
    path = source.base_samples / f"{hashlib.sha256(repr(cache_key).encode()).hexdigest()[:16]}.npz"
    if get_engine().broadcast_bool(path.is_file()):
        with contextlib.suppress(InputError):  # a damaged cache is resampled
            values, cond = read_samples(path, modality)
            return Dataset(values, cond, modality)
    rng, samples_by_n = Rng(tuning_record.seed).fold_in("before"), dict[int, Dataset]()

    def draw(n: int) -> None:
        cond = tuning_record.conditions(base, n, rng)
        samples_by_n[n] = base.sample_dataset(n, given=cond, guidance=guidance, rng=rng, on_progress=reporter.progress)

    n = effort.num_affordable(MAX_BASE_SAMPLES, 1.0, draw, get_engine())
    if n not in samples_by_n:
        draw(n)
    if get_engine().is_main_process and path.suffix in modality.writers and not modality.has_own_loader:
        with contextlib.suppress(InputError, OSError):  # the cache is optional; the base run may be read-only
            for stale_file in sorted(source.base_samples.glob("*.npz"))[MAX_CACHED_FILES - 1 :]:
                stale_file.unlink()
            modality.write(samples_by_n[n].values, samples_by_n[n].given, path)
    return samples_by_n[n]


def _copy_base_files(source: Run, target: Run) -> None:
    """Copy the base weights, the judge and auxiliary networks to the fine-tuned run, for comparison and decoding."""
    replace_file(target.base, source.ema_weights.read_bytes())
    pairs = [(source.aux_weights(name), target.aux_weights(name)) for name in AUX_NETWORKS]
    for file, copy in ((source.judge, target.judge), *pairs):
        if file.is_file():
            replace_file(copy, file.read_bytes())


class DivergenceMonitor(StepMonitor):
    """Step monitor that stops training if the loss is not finite, or the model diverges too far from the base model."""

    def __init__(self, strength: float, first: float, run: Run) -> None:
        self.strength, self.base_reward, self.run = strength, first, run

    def check(self, metrics: StepMetrics) -> None:
        try:
            check_finite(metrics)
        except InputError as error:
            raise InputError(f"fine-tuning diverged: {error}; {self.run.path} keeps the last good weights") from error
        reward, cost = (metrics.extras.get(name) for name in ("reward", "cost"))
        if reward is None or cost is None:
            return
        explained = max(self.strength * (reward.item() - self.base_reward), MIN_EXPLAINED_NATS)
        if not cost.item() <= MAX_DIVERGENCE_RATIO * explained:
            raise InputError(
                f"fine-tuning diverged at step {metrics.step}: the model is {cost.item():.4g} nats from the base model,"
                f" but its gain in reward accounts for only {explained:.4g} nats. {self.run.path} keeps the weights of"
                " an earlier step. Lower --strength"
                f" (now {self.strength:g}) or the learning rate (--train.lr {metrics.lr / 3:.1g})"
            )
