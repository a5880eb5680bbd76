"""Reading of the recorded options of a fine-tuned run, and loading of its base model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from feller.app.workflows.run_config import read_fit_record, read_import_conventions
from feller.control.fine_tuning.tuning_objective import FineTuning
from feller.control.rewards.named_rewards import reward_file
from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.core.run_folder import Run, open_run
from feller.core.user_code import fingerprint
from feller.models.model import Model, load_model
from feller.models.pretrained.diffusers_network import PROMPT
from feller.models.recipes.fine_tuning_methods import METHODS
from feller.models.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TuningRecord:
    """Options of a fine-tuning run except its recipe, as recorded in recipe.json."""

    base: str
    """Folder of the run with the base model."""
    folder: str = ""
    """Folder of diffusers or transformers from which the base model was imported; empty for other models."""
    rewards: tuple[str, ...]
    """Rewards as texts; the model is fine-tuned on the sum of these rewards."""
    code: tuple[str, ...] = ()
    """Hash of each user-code file named in the rewards."""
    method: str
    given: dict[str, str] = field(default_factory=dict)
    """Conditions that were fixed during fine-tuning."""
    prompts: tuple[str, ...] = ()
    """Prompts of which each sample had a random one."""
    rank: int | None = None
    """Rank of LoRA; None if all weights are trained."""
    target_modules: tuple[str, ...] = ()
    """Modules that LoRA adapts; empty for all."""
    seed: int = 0
    fields: tuple[str, ...] = ()
    """Command-line words that set recipe fields, such as `--train.lr 1e-4`."""

    def conditions(self, model: Model, n: int, rng: Rng) -> Cond:
        """Return the conditions of n samples: those that are fixed, and a random prompt each."""
        if not self.prompts:
            return model.sample_conditions(n, self.given, rng)
        index = rng.stream("prompts").randint(len(self.prompts), (n,)).tolist()
        return model.sample_conditions(n, {**self.given, PROMPT: [self.prompts[i] for i in index]}, rng)


def imported_folder(run: Run) -> str:
    """Return the folder from which the model of a run, or of its base, was imported; empty for other models.

    Raises:
        InputError: If the run was started from a run that is not there.
    """
    tuning_record = read_tuning_record(run)
    if tuning_record is not None:
        return tuning_record.folder
    conventions = read_import_conventions(run)
    if conventions is not None:
        return conventions.folder
    start = read_fit_record(run).start_from
    return "" if start is None else imported_folder(open_run(start))


def read_tuning_record(run: Run) -> TuningRecord | None:
    """Read the recorded fine-tuning options of a run; None if the run was not fine-tuned."""
    return run.find(TuningRecord, run.recipe, "tuned")


def fine_tuning_of(recipe: Recipe) -> FineTuning:
    """Return the training objective of a fine-tuning recipe.

    Raises:
        InputError: If the recipe's objective is not a fine-tuning method.
    """
    if "reward" not in recipe.objective.requires:
        class_name = type(recipe.objective).__name__
        raise InputError(f"a fine-tuning method ({', '.join(METHODS)})", class_name, "Copy the whole run")
    return cast(FineTuning, recipe.objective)


def read_recipe(run: Run) -> Recipe:
    """Read the recipe of a run, which may contain a fine-tuning objective.

    Raises:
        InputError: If the recipe contains no training objective, as for an imported network.
    """
    record = run.read_field(run.recipe, "recipe")
    if not knows_objective(record):
        raise InputError(
            argument="objective",
            expected="a run with a recorded training objective",
            found="a run saved or imported without an objective",
            remedy="Save the run with feller.Model(network, objective).save(...)",
            file=run.recipe,
        )
    return run.read_as(Recipe, run.recipe, "recipe")


def knows_objective(record: Mapping[str, Any]) -> bool:
    """Return True if a recorded recipe contains the training objective, which an imported network may lack."""
    return "objective" in record or "train" in record


def code_hashes(rewards: Sequence[str]) -> tuple[str, ...]:
    """Return the hash of each user-code file named in the rewards."""
    files = [reward_file(text) for text in rewards]
    return tuple(fingerprint(file) for file in files if file is not None)


def base_model(run: Run) -> Model:
    """Return the base model of a fine-tuned run."""
    return load_model(run, file=run.base)


def check_same_rewards(tuning_record: TuningRecord, rewards: tuple[str, ...]) -> None:
    """Raise an error if the rewards of a resumed fine-tuning run, or the code of these rewards, differ from the record.

    Raises:
        UsageError: If the rewards differ.
        InputError: If the code of a reward has changed.
    """
    if rewards and rewards != tuning_record.rewards:
        raise UsageError(
            f"this run was fine-tuned on {' and '.join(tuning_record.rewards)}",
            remedy="Leave out --resume to start a new run",
        )
    if rewards and code_hashes(rewards) != tuning_record.code:
        raise InputError("the reward file has changed since this run started", remedy="Restore it or start a new run")


def needs_rewards(tuning_record: TuningRecord) -> bool:
    """Return True if the user must pass the rewards again to resume a fine-tuning run.

    This is so if a reward is user code or a run: code and runs that only a record names are never loaded.
    """
    return any(".py:" in text or "/" in text for text in tuning_record.rewards)
