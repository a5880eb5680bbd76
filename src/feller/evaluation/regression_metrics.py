"""Regressors and the errors of their predictions."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, num_examples, tree_map
from feller.data.loading.sample_reader import value_converter
from feller.data.modality import Dataset, Modality, Target
from feller.evaluation.attacks.attack_scores import roc_auc
from feller.models.model import Model

CHUNK = 256
"""Number of examples per batch."""


class TrainedRegressor:
    """Trained regressor that accepts values of its own modality or a compatible one."""

    def __init__(self, model: Model, theirs: Modality) -> None:
        """Set up the conversion from modality `theirs` to that of the model.

        Raises:
            UsageError: If the model is not a regressor, or cannot read values of that modality.
        """
        spec = model.spec
        if spec.family.prediction_target is None:
            raise UsageError(
                f"this model is not a regressor of {spec.modality.display_name}: it {spec.family.describe()}",
                remedy="Fit a regressor with --recipe regressor",
            )
        self.target: Target = spec.family.prediction_target
        """Predicted target."""
        self._network = model.network.eval().requires_grad_(False)
        self._see = value_converter(theirs, spec.modality)

    def __call__(self, values: State, cond: Cond) -> Float64[Tensor, "b answers"]:
        """Return predictions in the units of the target, or class logits; differentiable in continuous values."""
        x_t = self._see(values)
        n, device = num_examples(x_t), next(self._network.parameters()).device
        where = next(iter(x_t.values())).device if isinstance(x_t, dict) else x_t.device
        if device != where:
            self._network.to(where)
        real = {"valid": cond["valid"]} if "valid" in cond else {}
        answer = self._network(x_t, torch.zeros(n, device=where), real).double()
        if self.target.classes:
            return answer
        return answer * answer.new_tensor(self.target.scales) + answer.new_tensor(self.target.means)

    @torch.no_grad()
    def predict(self, data: Dataset) -> Float64[Tensor, "n answers"]:
        """Return the predictions for each example of a dataset, computed in batches."""
        parts = [
            self(*(tree_map(lambda leaf, rows=rows: leaf[rows], tree) for tree in (data.values, data.given)))
            for rows in torch.arange(len(data)).split(CHUNK)
        ]
        return torch.cat(parts)


def regression_errors(
    target: Target, answers: Float[Tensor, "n answers"], truth: Float[Tensor, "n names"]
) -> dict[str, float | None]:
    """Return error metrics of predictions, and those of a constant prediction as the baseline.

    For a target with classes: `accuracy`, and `accuracy_constant` of predicting the most frequent class; with two
    classes also `auc`, None if only one class is present. For a numeric target: `mae` in the units of the target,
    `mae_constant` of predicting the training mean, and `r2`, None if the true values are constant. With several targets
    the metrics have suffixes, such as `mae_mu`.
    """
    if target.classes:
        right = truth[:, 0].long()
        found: dict[str, float | None] = {
            "accuracy": torch.eq(answers.argmax(1), right).double().mean().item(),
            "accuracy_constant": right.bincount().max().item() / len(right),
        }
        if len(target.classes) == 2:
            score, second = (answers[:, 1] - answers[:, 0]).cpu().numpy(), right.numpy() == 1
            found["auc"] = roc_auc(score[second], score[~second]) if 0 < second.sum() < len(second) else None
        return found
    numbers: dict[str, float | None] = {}
    for i, (name, mean) in enumerate(zip(target.names, target.means, strict=True)):
        behind = f"_{name}" if len(target.names) > 1 else ""
        error, away = answers[:, i] - truth[:, i], truth[:, i] - truth[:, i].mean()
        spread = away.square().sum().item()
        numbers[f"mae{behind}"] = error.abs().mean().item()
        numbers[f"mae_constant{behind}"] = (truth[:, i] - mean).abs().mean().item()
        numbers[f"r2{behind}"] = 1 - error.square().sum().item() / spread if spread > 0 else None
    return numbers
