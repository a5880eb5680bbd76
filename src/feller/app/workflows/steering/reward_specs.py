"""Parsing of rewards from text specifications, such as `file.py:FUNCTION` or the folder of a regressor run."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from feller.control.rewards.crystal_energy import crystal_reward
from feller.control.rewards.molecule_rewards import MoleculeReward
from feller.control.rewards.named_rewards import (
    ClassReward,
    Reward,
    RewardFactory,
    RewardSum,
    StateReward,
    code_reward,
    image_rewards,
    parse_reward,
    user_reward,
)
from feller.control.rewards.reward import evaluate_reward
from feller.core.errors import UsageError, error_context
from feller.core.pytree import Cond, State, tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run, open_run
from feller.core.user_code import MEMORY_PREFIX, load_function
from feller.data.crystals.modality import Crystals
from feller.data.images.modality import Images
from feller.data.labels import class_number, unknown_class
from feller.data.modality import Modality
from feller.data.molecules.modality import Molecules
from feller.evaluation.judge import Judge, load_judge
from feller.evaluation.regression_metrics import TrainedRegressor
from feller.models.model import Model, load_model


def parse_rewards(run: Run, modality: Modality, texts: Sequence[str]) -> RewardSum:
    """Parse rewards given by the user, which may name code and other runs; return the sum of the rewards.

    Raises:
        UsageError: If a reward is unknown or does not apply to the data.
        InputError: If user code fails.
    """
    return parse_reward(
        texts,
        _named_rewards(run, modality),
        lambda text: code_reward(text, modality) or _regressor_reward(modality, text),
    )


def parse_recorded_rewards(run: Run, modality: Modality, texts: Sequence[str]) -> RewardSum:
    """Parse the rewards recorded in a run and return their sum; recorded rewards may not load code or other runs.

    Raises:
        UsageError: If a reward names code or another run, so that the user must give it again, or for the reasons in
            `parse_rewards`.
    """

    def refuse(text: str) -> Reward:
        if text.startswith(MEMORY_PREFIX):
            return user_reward(load_function(text), modality)  # defined in this process
        raise UsageError(
            "this run's reward is custom code or another run",
            remedy=f"Repeat the reward with --reward {text!r}",
            argument="reward",
        )

    return parse_reward(texts, _named_rewards(run, modality), refuse)


def _named_rewards(run: Run, modality: Modality) -> dict[str, RewardFactory]:
    """Return the built-in rewards of a modality by name, including those of the run's judge network."""
    factories = image_rewards(modality)
    if (images := modality.view(Images)) is not None and images.classes:
        factories["class"] = lambda text: _class(run, images, text)
    if (molecules := modality.view(Molecules)) is not None:
        factories["rdkit"] = lambda text: MoleculeReward(molecules, text)
    if (crystals := modality.view(Crystals)) is not None:
        factories["chgnet"] = lambda text: crystal_reward(crystals, text)
    return factories


def nondifferentiable_rewards(model: Model, reward: RewardSum, texts: Sequence[str]) -> list[str]:
    """Return the texts of the rewards that have no gradient with respect to the sample; try each on two samples.

    Raises:
        InputError: If a reward does not return one finite value per sample.
    """
    pairs = model.sample_pairs(2, Rng(0).fold_in("trial"))
    x = tree_map(lambda leaf: leaf.requires_grad_() if leaf.is_floating_point() else leaf, pairs["x_1"])
    modality = model.spec.modality
    without_gradient = []
    for text, term in zip(texts, reward.terms, strict=True):
        with error_context(place=text):
            values = evaluate_reward(StateReward(term, modality), x, pairs["given"])
        without_gradient += [] if values.requires_grad else [text]
    return without_gradient


@dataclass(frozen=True, eq=False)
class RegressorReward:
    """Reward of a sample: the value that a regressor predicts for it, in units of the regressor's target."""

    regressor: TrainedRegressor
    index: int
    """Index of the predicted quantity among the regressor's targets."""

    def __call__(self, values: State, cond: Cond) -> Tensor:
        return self.regressor(values, cond)[:, self.index]


def _regressor_reward(modality: Modality, text: str) -> Reward | None:
    """Return the reward for a regressor run, given as `RUN`, `RUN:NAME` or `RUN=CLASS,CLASS`; None for other text."""
    partitions = ((text, "", ""), text.rpartition(":"), text.rpartition("="))
    match = next(
        (parts for parts in partitions if parts[0] and (pathlib.Path(parts[0]) / "model.json").is_file()), None
    )
    if match is None:
        return None
    folder, separator, suffix = match
    try:
        regressor = TrainedRegressor(load_model(open_run(folder)), modality)
    except UsageError as error:
        raise UsageError(f"cannot be a reward: {error}", file=folder, argument="reward") from error
    target = regressor.target
    if target.classes:
        return _of_classes(folder, regressor, suffix if separator == "=" else "")
    if separator == "=" or (not suffix and len(target.names) > 1):
        raise UsageError.unknown_name("reward", suffix, target.names, alternatives=f", as {folder}:NAME")
    if suffix and suffix not in target.names:
        raise UsageError.unknown_name("reward", suffix, target.names, file=folder)
    return RegressorReward(regressor, target.names.index(suffix) if suffix else 0)


def _of_classes(folder: str, regressor: TrainedRegressor, text: str) -> ClassReward:
    """Return the reward RUN=NAMES: the log probability of these classes under the classifier of a run."""
    classes, names = regressor.target.classes, text.split(",")
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UsageError.unknown_name("reward", unknown[0], classes, alternatives=f", as {folder}=CLASS")
    return ClassReward(regressor, tuple(classes.index(name) for name in names))


def _class(run: Run, modality: Images, text: str) -> ClassReward:
    """Return the reward class=NAMES: the log probability of these classes under the run's judge network."""
    names = text.split(",")
    if not text:
        raise UsageError("classes, such as class=7 or class=1,3,7", "class without a value", argument="reward")
    indices = [class_number(name, modality.classes) for name in names]
    if None in indices:
        raise unknown_class(UsageError, "class", names[indices.index(None)], modality.classes)
    if not run.judge.is_file():
        raise UsageError(
            "has no judge network, which classifies images",
            remedy=f"Train a judge network with: feller evaluate {run.path}",
            file=run.path,
            argument="reward",
        )
    judge = load_judge(run.judge)
    if judge.target != "label":
        raise UsageError(
            "a judge network with classes", "one without, because the data had none", file=run.path, argument="reward"
        )
    return ClassReward(_Logits(judge), tuple(index for index in indices if index is not None))


class _Logits:
    """Class logits of the judge network, for pixel values that are not rounded."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def __call__(self, values: Tensor, cond: Cond) -> Tensor:
        weight = self.judge.network.head.weight
        if weight.device != values.device:
            self.judge.network.to(values.device)
        modality = self.judge.modality
        return self.judge.network(modality.code.encode(values.to(weight.dtype), modality.levels))
