"""Steering workflow: optimise samples for a reward or solve an inverse problem, and write a report."""

from feller.app.config import SteerConfig
from feller.app.options import command_words, flags_of, non_default_options
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.bridges.bridge_detection import refuse_bridge
from feller.app.workflows.reporting.steering_report import write_measurement_page, write_reward_page
from feller.app.workflows.steering.inverse_problems import InverseProblemResult, solve_inverse_problem
from feller.app.workflows.steering.reward_particles import sample_by_particles
from feller.app.workflows.steering.reward_search import RewardSearchResult, search_reward
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.data.path_checks import require_free


def steer(
    run: Run, config: SteerConfig, *, reporter: Reporter = SILENT
) -> tuple[RewardSearchResult | InverseProblemResult, str]:
    """Steer samples toward a reward, or solve an inverse problem, and write samples and report.

    Args:
        run: Run with the model, which is not changed.
        config: Options of `feller steer`.
        reporter: Progress and log output.

    Returns:
        The result, and the path of its report page.

    Raises:
        InputError: If the run, the measurements or user code is unusable, or another process writes to the run.
        UsageError: If an argument is wrong, or the model does not support steering.
    """
    check_steer_options(config)
    refuse_bridge(run, "steered")
    with run.ensure_lock():  # fail early if another process writes to the run
        if config.measurement.observe is None:
            search = sample_by_particles if config.measurement.method == "smc" else search_reward
            reward_result = search(run, config, reporter=reporter)
            return reward_result, write_reward_page(run, config.rewards, reward_result, command_words(config))
        solution = solve_inverse_problem(run, config, reporter=reporter)
        return solution, write_measurement_page(run, config.measurement.operator or "", solution, command_words(config))


def check_steer_options(config: SteerConfig) -> None:
    """Raise an error if options exclude each other, or if the output file exists."""
    measurement, steps = config.measurement, config.steps
    is_observed = measurement.observe is not None
    if config.reward and is_observed:
        raise UsageError("--reward or --observe", "both", "Choose one", argument="rewards")
    if not config.reward and not is_observed:
        raise UsageError(expected="a target: --reward TEXT, or --observe FILE with --operator NAME")
    uses_particles = measurement.method == "smc"
    other_flags = set(flags_of(config.search if is_observed or uses_particles else measurement))
    if uses_particles and not is_observed:
        other_flags |= flags_of(measurement).keys() - {"method", "particles"}
    if wrong_flags := [f"--{name}" for name in non_default_options(config) if name in other_flags]:
        options, verb = ", ".join(wrong_flags), "needs" if len(wrong_flags) == 1 else "need"
        needed = "--reward without --method smc" if uses_particles else "--reward" if is_observed else "--observe"
        raise UsageError(f"{options} {verb} {needed}", remedy=f"Remove {options}")
    if is_observed and measurement.operator is None:
        raise UsageError("needs --operator, the measurement operator", argument="observe")
    if measurement.particles is not None and not uses_particles:
        raise UsageError("needs --method smc", remedy="Add --method smc", argument="particles")
    if steps is not None and is_observed and measurement.method not in ("source", "smc"):
        raise UsageError(
            "applies only to the optimisation of --method source and the steps of --method smc",
            remedy="Leave it out, or use --method source",
            argument="steps",
        )
    require_free(config.out, overwrite=config.overwrite)
