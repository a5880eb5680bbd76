"""Steer: from a run folder to samples that are as wished, or that explain an observation, and their page."""

from feller.app.config import SteerConfig
from feller.app.options import command_words, flags_of, non_default_options
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.bridges.bridge_detection import refuse_bridge
from feller.app.workflows.reporting.steering_report import write_measurement_page, write_reward_page
from feller.app.workflows.steering.inverse_problems import InverseProblemResult, solve_inverse_problem
from feller.app.workflows.steering.reward_search import RewardSearchResult, search_reward
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.data.path_checks import require_free


def steer(
    run: Run, config: SteerConfig, *, reporter: Reporter = SILENT
) -> tuple[RewardSearchResult | InverseProblemResult, str]:
    """Look for samples that are most as wished, or that explain what was measured, and write them with a page.

    Args:
        run: Holds the model, which stays as it is.
        config: What is asked for.
        reporter: Hears how it goes.

    Returns:
        What was reached, and where its page is.

    Raises:
        InputError: If run, measurements or the user's code are not what they must be, or another process writes to the
            run.
        UsageError: If an argument is wrong, or the model's data cannot be steered.
    """
    check_steer_options(config)
    refuse_bridge(run, "steered")
    with run.ensure_lock():  # what another process does with the run is told before the search
        if config.measurement.observe is None:
            steered = search_reward(run, config, reporter=reporter)
            return steered, write_reward_page(run, config.rewards, steered, command_words(config))
        explained = solve_inverse_problem(run, config, reporter=reporter)
        return explained, write_measurement_page(
            run, config.measurement.operator or "", explained, command_words(config)
        )


def check_steer_options(config: SteerConfig) -> None:
    """Refuse what does not go together, and a place where a file is."""
    measurement, steps = config.measurement, config.steps
    observed = measurement.observe is not None
    if config.reward and observed:
        raise UsageError("--reward or --observe", "both", "Choose one", argument="rewards")
    if not config.reward and not observed:
        raise UsageError(expected="what to steer to: --reward WISH, or --observe FILE with --operator NAME")
    others = flags_of(config.search if observed else measurement)
    if wrong := [f"--{name}" for name in non_default_options(config) if name in others]:
        raise UsageError(
            f"{', '.join(wrong)} goes with {'--reward' if observed else '--observe'}", remedy="Leave it out"
        )
    if observed and measurement.operator is None:
        raise UsageError("needs --operator: how the measurements came about", argument="observe")
    if steps is not None and observed and measurement.method != "source":
        raise UsageError(
            "are of a search, and guidance has none", remedy="Leave it out, or say --method source", argument="steps"
        )
    require_free(config.out, overwrite=config.overwrite)
