"""Steer: from a run folder to samples that are as wished, or that explain an observation, and their page."""

from feller.app.config import SteerConfig
from feller.app.options import changed, flags_of, words_of
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.bridges.is_bridge import refuse_bridge
from feller.app.workflows.reporting.steering_report import page_of_observation, page_of_reward
from feller.app.workflows.steering.inverse_problems import Explained, observe
from feller.app.workflows.steering.reward_search import Steered, follow
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.data.path_checks import require_free


def steer(run: Run, config: SteerConfig, *, tell: Tell = SILENT) -> tuple[Steered | Explained, str]:
    """Look for samples that are most as wished, or that explain what was measured, and write them with a page.

    Args:
        run: Holds the model, which stays as it is.
        config: What is asked for.
        tell: Hears how it goes.

    Returns:
        What was reached, and where its page is.

    Raises:
        InputError: If run, measurements or the user's code are not what they must be, or another process writes to the
            run.
        UsageError: If an argument is wrong, or the model's data cannot be steered.
    """
    check(config)
    refuse_bridge(run, "steered")
    with run.ensure_lock():  # what another process does with the run is told before the search
        if config.measurement.observe is None:
            steered = follow(run, config, tell=tell)
            return steered, page_of_reward(run, config.rewards, steered, words_of(config))
        explained = observe(run, config, tell=tell)
        return explained, page_of_observation(run, config.measurement.operator or "", explained, words_of(config))


def check(config: SteerConfig) -> None:
    """Refuse what does not go together, and a place where a file is."""
    how, steps = config.measurement, config.steps
    observed = how.observe is not None
    if config.reward and observed:
        raise UsageError("--reward or --observe", "both", "Choose one", argument="rewards")
    if not config.reward and not observed:
        raise UsageError(expected="what to steer to: --reward WISH, or --observe FILE with --operator NAME")
    others = flags_of(config.search if observed else how)
    if wrong := [f"--{name}" for name in changed(config) if name in others]:
        raise UsageError(
            f"{', '.join(wrong)} goes with {'--reward' if observed else '--observe'}", remedy="Leave it out"
        )
    if observed and how.operator is None:
        raise UsageError("needs --operator: how the measurements came about", argument="observe")
    if steps is not None and observed and how.method != "source":
        raise UsageError(
            "are of a search, and guidance has none", remedy="Leave it out, or say --method source", argument="steps"
        )
    require_free(config.out, overwrite=config.overwrite)
