"""Predictions of trained regressors, and error metrics of these predictions."""

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
    """Trained regressor or classifier that predicts from data of its own modality or a compatible one.

    Images, for example, are compatible if they have the same shape, even if the pixels are encoded otherwise.
    """

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
        data_device = next(iter(x_t.values())).device if isinstance(x_t, dict) else x_t.device
        if device != data_device:
            self._network.to(data_device)
        inputs = {"valid": cond["valid"]} if "valid" in cond else {}
        output = self._network(x_t, torch.zeros(n, device=data_device), inputs).double()
        if self.target.classes:
            return output
        return output * output.new_tensor(self.target.scales) + output.new_tensor(self.target.means)

    @torch.no_grad()
    def predict(self, data: Dataset) -> Float64[Tensor, "n answers"]:
        """Return the predictions for each example of a dataset, computed in batches.

        They are in the units of the target; for a target with classes they are logits.
        """
        batches = [
            self(*(tree_map(lambda leaf, rows=rows: leaf[rows], tree) for tree in (data.values, data.given)))
            for rows in torch.arange(len(data)).split(CHUNK)
        ]
        return torch.cat(batches)


def regression_errors(
    target: Target, answers: Float[Tensor, "n answers"], truth: Float[Tensor, "n names"]
) -> dict[str, float | None]:
    """Return error metrics of predictions, and those of a constant prediction as the baseline.

    For a target with classes: `accuracy`, and `accuracy_constant` of predicting the most frequent class; with two
    classes also `auc`, None if only one class is present. For a numeric target: `mae` in the units of the target,
    `mae_constant` of predicting the training mean, and `r2`, None if the true values are constant. With several targets
    the metrics have suffixes, such as `mae_mu`.

    Args:
        target: Prediction target.
        answers: Predictions in the units of the target, or logits of its classes.
        truth: True values in the units of the target, or true class indices in the only column.
    """
    if target.classes:
        labels = truth[:, 0].long()
        metrics: dict[str, float | None] = {
            "accuracy": torch.eq(answers.argmax(1), labels).double().mean().item(),
            "accuracy_constant": labels.bincount().max().item() / len(labels),
        }
        if len(target.classes) == 2:
            score, y = (answers[:, 1] - answers[:, 0]).cpu().numpy(), labels.numpy() == 1
            metrics["auc"] = roc_auc(score[y], score[~y]) if 0 < y.sum() < len(y) else None
        return metrics
    errors: dict[str, float | None] = {}
    for i, (name, mean) in enumerate(zip(target.names, target.means, strict=True)):
        suffix = f"_{name}" if len(target.names) > 1 else ""
        error, deviation = answers[:, i] - truth[:, i], truth[:, i] - truth[:, i].mean()
        variance = deviation.square().sum().item()
        errors[f"mae{suffix}"] = error.abs().mean().item()
        errors[f"mae_constant{suffix}"] = (truth[:, i] - mean).abs().mean().item()
        errors[f"r2{suffix}"] = 1 - error.square().sum().item() / variance if variance > 0 else None
    return errors
