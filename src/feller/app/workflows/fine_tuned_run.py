"""What a tuned run began with, and what it was tuned to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from feller.control.fine_tuning.tuning_objective import FineTuning
from feller.control.rewards.named_rewards import reward_file
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.core.serialization import from_dict
from feller.core.user_code import fingerprint
from feller.models.model import Model, load_model
from feller.models.recipes.fine_tuning_methods import METHODS
from feller.models.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TuningRecord:
    """What was asked of a tuning, beside the recipe; recipe.json holds it."""

    base: str
    """Run whose model was the first."""
    rewards: tuple[str, ...]
    """Wishes in words; they add up."""
    code: tuple[str, ...] = ()
    """Hash of each file of the user's that these name."""
    method: str
    given: dict[str, str] = field(default_factory=dict)
    """Conditions that are always so while tuning."""
    rank: int | None = None
    """Of the change of each matrix of weights; None for any."""
    seed: int = 0
    fields: tuple[str, ...] = ()
    """Words that set fields of the recipe, such as `--train.lr 1e-4`."""


def read_tuning_record(run: Run) -> TuningRecord | None:
    """Read what was asked of a tuning; None if the run was not tuned."""
    content = run.read_record(run.recipe).get("tuned")
    return None if content is None else from_dict(TuningRecord, content)


def fine_tuning_of(recipe: Recipe) -> FineTuning:
    """Return the way of tuning of a recipe.

    Raises:
        InputError: If it has none.
    """
    if "reward" not in recipe.objective.requires:
        kind = type(recipe.objective).__name__
        raise InputError(f"a way of tuning ({', '.join(METHODS)})", kind, "Copy the whole run")
    return cast(FineTuning, recipe.objective)


def read_recipe(run: Run) -> Recipe:
    """Read how a run was trained; records can name the methods, since they are imported here.

    Raises:
        InputError: If nobody knows, as of a network that was imported.
    """
    record = run.read_field(run.recipe, "recipe")
    if not knows_objective(record):
        raise InputError(
            argument="objective",
            expected="a run that knows what its model was trained with",
            found="one that was saved or imported without it",
            remedy="Save it with feller.Model(network, objective).save(...)",
            file=run.recipe,
        )
    return from_dict(Recipe, record)


def knows_objective(record: Mapping[str, Any]) -> bool:
    """Tell whether a recorded recipe holds what was trained; that of a network that was brought may not."""
    return "objective" in record or "train" in record


def code_hashes(rewards: Sequence[str]) -> tuple[str, ...]:
    """Return the hash of each file of the user's that wishes name."""
    files = [reward_file(text) for text in rewards]
    return tuple(fingerprint(file) for file in files if file is not None)


def base_model(run: Run) -> Model:
    """Return the model that a tuned run began with."""
    return load_model(run, file=run.base)


def check_same_rewards(tuning_record: TuningRecord, rewards: tuple[str, ...]) -> None:
    """Refuse to go on with other wishes, or with code that is another by now.

    Raises:
        UsageError: If the wishes are others.
        InputError: If that code is not what it was.
    """
    if rewards and rewards != tuning_record.rewards:
        raise UsageError(
            f"this run is tuned to {' and '.join(tuning_record.rewards)}",
            remedy="Leave out --resume to start a new one",
        )
    if rewards and code_hashes(rewards) != tuning_record.code:
        raise InputError(
            "the file of the reward is not what it was when this run began", remedy="Bring it back, or tune anew"
        )


def needs_rewards(tuning_record: TuningRecord) -> bool:
    """Tell whether wishes must be given again when a tuning goes on: a record runs no code and reads no other runs."""
    return any(".py:" in text or "/" in text for text in tuning_record.rewards)
