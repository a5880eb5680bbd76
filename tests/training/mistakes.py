"""Mistakes that people make with objectives, paths and solvers, with the argument that the error names.

As a program it makes them all and prints what was raised: in tests, the types of all arguments are checked before.
"""

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from feller.app.modalities.registration import register_modality
from feller.core.rng import RandomStream, Rng
from feller.core.run_folder import open_run
from feller.evaluation.conformance import check_path
from feller.models.export.user_network import images, points
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.networks.blocks.ema import EMA
from feller.networks.mlp import MLP
from feller.paths import Affine, DataPrediction, Geodesic, Mixture, ProductPath
from feller.paths.affine import SigmaProportional
from feller.paths.processes import Characteristics, superpose
from feller.paths.schedules import VP, Linear
from feller.paths.time_distributions import TimeDistribution, linear_grid
from feller.sampling import Euler, Midpoint, simulate
from feller.sampling.guidance import cfg
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import SO3, Euclidean, MaskSource, Sphere, Tokens, UniformSource
from feller.spaces import Product as ProductSpace
from feller.training.couplings import MinibatchOT
from feller.training.losses import CrossEntropy, PerLeafLoss, PseudoHuber, SquaredError, TimeWeighted
from feller.training.objective import FlowMatching, TrainingContext
from feller.training.objectives.distillation import Distillation
from feller.training.objectives.maximum_likelihood import MaximumLikelihood

K, L = 5, 3
FLOW = FlowMatching(Affine(), Euclidean((2,)), cond_dropout=0.0)
PICTURES = FlowMatching(Affine(), Euclidean((1, 28, 28)), cond_dropout=0.0)
PLAIN = FlowMatching(Affine(), Euclidean((28, 28)), cond_dropout=0.0)
TEXTS = FlowMatching(Mixture(source=MaskSource()), Tokens(K, (L,), MaskSource()), CrossEntropy(), cond_dropout=0.0)
ROUND = FlowMatching(Geodesic(Sphere()), Sphere(), cond_dropout=0.0)
TURNED = FlowMatching(Geodesic(SO3()), SO3(), cond_dropout=0.0)
PARTS = ProductPath({"place": Affine(), "kind": Mixture(source=MaskSource())})
PARTED = ProductSpace({"place": Euclidean((2,)), "kind": Tokens(K, (L,), MaskSource())})
X = torch.zeros(16, 2)
RNG = Rng(0)


class Net(nn.Module):
    """A valid network with float32 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return self.layer(x_t)


class Short(Net):
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
        return self.layer(x_t)


@dataclass(frozen=True)
class Form(TimeDistribution):
    """A time distribution with transformed quantiles."""

    form: Callable[[Tensor], Any]

    def quantile(self, u: Tensor) -> Tensor:
        return u

    def __call__(self, n: int, rng: RandomStream, device: object = "cpu") -> Any:
        return self.form(rng.uniform((n,)))


def draw(objective: FlowMatching, x_1: Any, **more: Any) -> Any:
    return objective.draw({"x_1": x_1, **more}, RNG)


def answered(network: Any, objective: FlowMatching = FLOW, x_1: Tensor = X) -> Tensor:
    return objective.loss(network, draw(objective, x_1))


def texts(answer: Callable[[Tensor], Any]) -> Tensor:
    return answered(lambda x, t, given: answer(x), TEXTS, torch.zeros(4, L, dtype=torch.long))


def times(form: Callable[[Tensor], Any]) -> Any:
    return draw(replace(FLOW, time_distribution=Form(form)), X)


def followed(process: Any, x: Tensor, solver: Any, grid: Any = (0.0, 0.5, 1.0)) -> Tensor:
    return simulate(process, x, grid, solver, RNG)


def nan(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x[3] = value
    return x


def on_sphere(x: Tensor, t: Tensor, given: Any) -> Tensor:
    return torch.ones_like(x)


def still(x: Tensor, t: Tensor) -> Characteristics:
    return Characteristics(torch.zeros_like(x))


SPHERE = Sphere().sample_base(8, RNG.stream("x"))
WHOLE = torch.zeros(4, L, dtype=torch.long)
LABELLED = {"label": torch.zeros(16, dtype=torch.long)}

ROWS = nn.Embedding(3, 2)
OWN = {"x_1": X, "t": torch.zeros(16)}


def by_label(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
    return x + torch.einsum("bd->bd", ROWS(given["label"]))


def labelled(network: Any, label: Tensor = LABELLED["label"]) -> Tensor:
    return FLOW.loss(network, draw(FLOW, X, label=label))


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    # the batch
    "an axis too many": (lambda: draw(FLOW, torch.zeros(16, 1, 2)), "x_1"),
    "channels that the space has not": (lambda: draw(PLAIN, torch.zeros(4, 1, 28, 28)), "x_1"),
    "channels last": (lambda: draw(PICTURES, torch.zeros(4, 28, 28, 1)), "x_1"),
    "another number of columns": (lambda: draw(FLOW, torch.zeros(16, 3)), "x_1"),
    "the same with transport": (lambda: draw(replace(FLOW, coupling=MinibatchOT()), torch.zeros(16, 3)), "x_1"),
    "one example without its axis": (lambda: draw(FLOW, torch.zeros(2)), "x_1"),
    "one number": (lambda: draw(FLOW, torch.zeros(())), "x_1"),
    "an array of numpy": (lambda: draw(FLOW, X.numpy()), "x_1"),
    "a dict where the space has one leaf": (lambda: draw(FLOW, {"place": X}), "x_1"),
    "no number": (lambda: draw(FLOW, nan(X, math.nan)), "x_1"),
    "an infinite number": (lambda: draw(FLOW, nan(X, math.inf)), "x_1"),
    "an empty batch": (lambda: draw(FLOW, X[:0]), "x_1"),
    "meta": (lambda: draw(FLOW, X.to("meta")), "x_1"),
    "integers in an affine path": (lambda: draw(FLOW, X.long()), "x_1"),
    "points off the sphere": (lambda: draw(ROUND, 1.5 * SPHERE), "x_1"),
    "float tokens": (lambda: draw(TEXTS, WHOLE.float()), "x_1"),
    "int32 tokens": (lambda: draw(TEXTS, WHOLE.int()), "x_1"),
    "a token of the mask": (lambda: draw(TEXTS, WHOLE + K), "x_1"),
    "a negative token": (lambda: draw(TEXTS, WHOLE - 1), "x_1"),
    "a source of another shape": (lambda: draw(FLOW, X, x_0=torch.zeros(16, 3)), "x_0"),
    "pairs of another shape": (lambda: draw(FLOW, torch.zeros(16, 3), x_0=torch.zeros(16, 3)), "x_0"),
    "data of another shape than the source": (lambda: draw(FLOW, torch.zeros(16, 3), x_0=X), "x_1"),
    "a source of integers": (lambda: draw(FLOW, X.long(), x_0=X.long()), "x_0"),
    "a source of a list": (lambda: draw(FLOW, X, x_0=X.tolist()), "x_0"),
    "a source without numbers": (lambda: draw(FLOW, X, x_0=nan(X, math.nan)), "x_0"),
    "a condition called target": (lambda: draw(FLOW, X, target=X[:, 0]), "target"),
    "conditions that are no dict": (lambda: draw(FLOW, X, given=X), "given"),
    "a condition twice": (lambda: draw(FLOW, X, label=X[:, 0], given={"label": X[:, 0]}), "label"),
    "the batch a tensor": (lambda: FLOW.draw(X, RNG), "batch"),  # type: ignore[arg-type]
    "x1": (lambda: FLOW.draw({"x1": X}, RNG), "batch"),
    "the network first": (lambda: FLOW.draw(Net(), RNG), "batch"),  # type: ignore[arg-type]
    "conditions of another length": (lambda: draw(FLOW, X, label=torch.zeros(15)), "label"),
    "a condition that is no tensor": (lambda: draw(FLOW, X, given={"label": 3}), "label"),
    "a condition without a null value": (lambda: draw(replace(FLOW, cond_dropout=0.5), X, **LABELLED), "null"),
    "a null value of another": (lambda: draw(replace(FLOW, cond_dropout=0.5, null={"kind": 3}), X, **LABELLED), "null"),
    "a null value between classes": (lambda: dropped(0.5, LABELLED["label"]), "null"),
    "a null value of truths": (lambda: dropped(2, LABELLED["label"] > 0), "null"),
    "a null value beyond a byte": (lambda: dropped(300, LABELLED["label"].byte()), "null"),
    "a null value that is infinite": (lambda: dropped(math.inf, LABELLED["label"].float()), "null"),
    "a condition of parts that is dropped": (lambda: dropped(0, {"a": X[:, 0]}), "label"),
    "a condition that is not finite": (lambda: draw(FLOW, X, label=X[:, 0] / 0), "label"),
    "marks of whole numbers": (lambda: draw(FLOW, X, valid=torch.ones(16, 2).long()), "valid"),
    "marks of another shape": (lambda: draw(FLOW, X, valid=torch.ones(16, 3) > 0), "valid"),
    "marks of no part": (lambda: draw(FLOW, X, valid={"a": X > 0}), "valid"),
    "one point off the sphere": (lambda: draw(ROUND, far(SPHERE, 7)), "x_1"),
    "one matrix that is no rotation": (lambda: draw(TURNED, far(torch.eye(3).expand(8, 3, 3), 7)), "x_1"),
    # random numbers
    "numbers drawn under vmap": (lambda: torch.vmap(lambda x: FLOW.draw({"x_1": x}, RNG)["x_t"])(X[None]), "rng"),
    "a generator": (lambda: FLOW.draw({"x_1": X}, torch.Generator()), "rng"),  # type: ignore[arg-type]
    "a seed": (lambda: FLOW.draw({"x_1": X}, 0), "rng"),  # type: ignore[arg-type]
    "a word for a seed": (lambda: Rng("a"), "seed"),  # type: ignore[arg-type]
    "half a seed": (lambda: Rng(1.5), "seed"),  # type: ignore[arg-type]
    "a truth for a seed": (lambda: Rng(True), "seed"),
    # times
    "half a step": (lambda: linear_grid(2.5), "steps"),  # type: ignore[arg-type]
    "a word for steps": (lambda: linear_grid("20"), "steps"),  # type: ignore[arg-type]
    "a word for a rate": (lambda: VP("0.1"), "beta_min"),  # type: ignore[arg-type]
    "times up to 1000": (lambda: times(lambda t: 1000 * t), "t"),
    "a column of times": (lambda: times(lambda t: t[:, None]), "t"),
    "one time for all": (lambda: times(lambda t: t[0]), "t"),
    "a path at one time for all": (lambda: Affine().sample(X, X, torch.tensor(0.5)), "t"),
    "a path at a column of times": (lambda: Affine().sample(X, X, torch.zeros(16, 1)), "t"),
    "a path at steps": (lambda: Affine().sample(X, X, torch.arange(16.0) * 60), "t"),
    "a geodesic at steps": (lambda: Geodesic(Sphere()).sample(SPHERE, SPHERE, torch.arange(8.0)), "t"),
    "a mixture without a source of chance": (lambda: Mixture().sample(WHOLE, WHOLE, torch.zeros(4)), "rng"),
    "a grid of steps": (lambda: followed(Affine().process(Net(), {}), X, Euler(), [0, 999]), "times"),
    "a grid that is a tensor": (
        lambda: followed(Affine().process(Net(), {}), X, Euler(), torch.linspace(0, 1, 3)),
        "times",
    ),
    "a grid that is a number": (lambda: followed(Affine().process(Net(), {}), X, Euler(), 20), "times"),
    # pieces that do not go together
    "a class for a path": (lambda: FlowMatching(Affine, Euclidean((2,))), "path"),  # type: ignore[arg-type]
    "a class for a loss": (lambda: FlowMatching(Affine(), Euclidean((2,)), SquaredError), "criterion"),  # type: ignore[arg-type]
    "a probability above 1": (lambda: replace(FLOW, cond_dropout=10), "cond_dropout"),
    "noise with transport": (
        lambda: FlowMatching(Affine(noise=SigmaProportional()), Euclidean((2,)), coupling=MinibatchOT()),
        "coupling",
    ),
    "two sources": (lambda: FlowMatching(Mixture(source=MaskSource()), Tokens(K, (L,), UniformSource())), "space"),
    "a class for a solver": (lambda: followed(Affine().process(Net(), {}), X, Midpoint), "solver"),
    "midpoint in the plane for a sphere": (
        lambda: followed(Geodesic(Sphere()).process(on_sphere, {}), SPHERE, Midpoint()),
        "solver",
    ),
    "midpoint on tokens": (
        lambda: followed(TEXTS.path.process(lambda x, t, given: torch.zeros(4, L, K), {}), WHOLE + K, Midpoint()),
        "solver",
    ),
    "distillation without a teacher": (
        lambda: Distillation(Affine(), Euclidean((2,))).build(TrainingContext()),
        "teacher",
    ),
    "guidance without a null value": (lambda: cfg(Net(), 2.0), "nulls"),
    "a schedule's class": (lambda: Affine(Linear), "schedule"),  # type: ignore[arg-type]
    "a schedule's name": (lambda: Affine("cosine"), "schedule"),  # type: ignore[arg-type]
    "a prediction's name": (lambda: Affine(prediction="epsilon"), "prediction"),  # type: ignore[arg-type]
    "a prediction's class": (lambda: Affine(prediction=DataPrediction), "prediction"),  # type: ignore[arg-type]
    "a path's name": (lambda: FlowMatching("affine", Euclidean((2,))), "path"),  # type: ignore[arg-type]
    "a shape for a space": (lambda: FlowMatching(Affine(), (3, 8, 8)), "space"),  # type: ignore[arg-type]
    "space and path": (lambda: FlowMatching(Euclidean((2,)), Affine()), "path"),  # type: ignore[arg-type]
    "straight lines on a sphere": (lambda: FlowMatching(Affine(), Sphere()), "path"),
    "a geodesic of a sphere in space": (lambda: FlowMatching(Geodesic(Sphere()), Euclidean((3,))), "path"),
    "straight lines of tokens": (lambda: FlowMatching(Affine(), Tokens(K, (L,))), "path"),
    "symbols in the plane": (lambda: FlowMatching(Mixture(), Euclidean((2,))), "path"),
    "symbols' loss of real numbers": (lambda: FlowMatching(Affine(), Euclidean((2,)), CrossEntropy()), "criterion"),
    "real numbers' loss of symbols": (lambda: replace(TEXTS, criterion=SquaredError()), "criterion"),
    "real numbers' weighted loss of symbols": (
        lambda: replace(TEXTS, criterion=TimeWeighted(PseudoHuber(), lambda t: t)),
        "criterion",
    ),
    "one loss for several leaves": (lambda: FlowMatching(PARTS, PARTED, SquaredError()), "criterion"),
    "losses of other leaves": (
        lambda: FlowMatching(PARTS, PARTED, PerLeafLoss({"place": SquaredError()})),
        "criterion",
    ),
    "a leaf's loss of real numbers": (
        lambda: FlowMatching(PARTS, PARTED, PerLeafLoss({"place": SquaredError(), "kind": SquaredError()})),
        "criterion",
    ),
    "paths for spaces": (lambda: ProductSpace({"place": Affine()}), "leaf_spaces"),  # type: ignore[dict-item]
    "spaces for paths": (lambda: ProductPath({"place": Euclidean((2,))}), "leaf_paths"),  # type: ignore[dict-item]
    "a list of spaces": (lambda: ProductSpace([Euclidean((2,))]), "leaf_spaces"),  # type: ignore[arg-type]
    "a space of parts for a path of parts": (lambda: FlowMatching(PARTED, PARTED), "path"),  # type: ignore[arg-type]
    "leaves of others": (
        lambda: FlowMatching(ProductPath({"a": Affine()}), ProductSpace({"b": Euclidean((2,))})),
        "path",
    ),
    "a null value without a name": (lambda: replace(FLOW, null=3), "null"),
    "a class for a space of a solver": (lambda: Midpoint(Sphere), "space"),  # type: ignore[arg-type]
    "a class for a geodesic's space": (lambda: Geodesic(Sphere), "space"),  # type: ignore[arg-type]
    "processes without weights": (lambda: superpose(still, still), "terms"),  # type: ignore[arg-type]
    "a list of terms": (lambda: superpose([(0.5, still), (0.5, still)]), "terms"),  # type: ignore[arg-type]
    "weights of 1.4 in all": (lambda: superpose((0.7, still), (0.7, still)), "terms"),
    "labels that are no dict": (lambda: Affine().process(Net(), LABELLED["label"]), "given"),  # type: ignore[arg-type]
    "a network's class in a recipe": (lambda: Recipe(architecture=MLP, objective=FLOW), "architecture"),  # type: ignore[arg-type]
    "a shape for a space of a check": (lambda: check_path(Affine(), (2,)), "space"),  # type: ignore[arg-type]
    "a seed for a simulation": (lambda: simulate(still, X, [0.0, 1.0], Euler(), 0), "rng"),  # type: ignore[arg-type]
    "an average of parameters": (lambda: EMA(Net().parameters()), "network"),  # type: ignore[arg-type]
    "a simulation from an array": (lambda: followed(still, X.numpy(), Euler()), "x"),
    # the network
    "no network": (lambda: answered(None), "network"),
    "logits of the mask": (lambda: texts(lambda x: torch.zeros(4, L, K + 1)), "network"),
    "logits with symbols first": (lambda: texts(lambda x: torch.zeros(4, K, L)), "network"),
    "an answer of fewer columns": (lambda: answered(lambda x, t, given: x[:, :1]), "network"),
    "a dict as answer": (lambda: answered(lambda x, t, given: {"sample": x}), "network"),
    "a tuple as answer": (lambda: answered(lambda x, t, given: (x,)), "network"),
    "a dict of logits": (lambda: texts(lambda x: {"logits": torch.zeros(4, L, K)}), "network"),
    "a network of (x, t)": (lambda: answered(Short()), "network"),
    "a function of (x, t)": (lambda: answered(lambda x, t: x), "network"),
    "no answer": (lambda: answered(lambda x, t, given: None), "network"),
    "a network of (x, t, label)": (lambda: labelled(lambda x, t, label: ROWS(label)), "network"),
    "no label": (lambda: answered(by_label), "label"),
    "a float label": (lambda: labelled(by_label, LABELLED["label"].float()), "label"),
    "a column of labels": (lambda: labelled(by_label, LABELLED["label"][:, None]), "label"),
    "one-hot labels": (lambda: labelled(by_label, nn.functional.one_hot(LABELLED["label"], 3)), "label"),
    "a label without a row": (lambda: labelled(by_label, LABELLED["label"] + 3), "label"),
    "labels of numpy": (lambda: draw(FLOW, X, label=LABELLED["label"].numpy()), "label"),
    "a batch that was not drawn": (lambda: FLOW.loss(Net(), {"x_1": X}), "example"),
    "the example first": (lambda: FLOW.loss(draw(FLOW, X), Net()), "example"),
    "times in a batch up to 1000": (lambda: draw(FLOW, X, t=torch.arange(16.0)), "t"),
    "times for what draws its own": (lambda: MaximumLikelihood(Affine(), Euclidean((2,))).draw(OWN, RNG), "t"),
    "a seed for a model": (lambda: Model(lambda x, t: x, data=(2,)).sample(1, rng=0), "rng"),  # type: ignore[arg-type]
    "half a call": (lambda: Model(lambda x, t: x, data=(2,)).sample(1, nfe=2.5), "nfe"),  # type: ignore[arg-type]
    "a word for calls": (lambda: Model(lambda x, t: x, data=(2,)).sample(1, nfe="20"), "nfe"),  # type: ignore[arg-type]
    "half a call of a sampler": (lambda: SamplerConfig(nfe=4.0), "nfe"),  # type: ignore[arg-type]
    "a solver's class": (lambda: Model(lambda x, t: x, data=(2,)).sample(1, solver=Midpoint), "solver"),  # type: ignore[arg-type]
    "a number for a folder": (lambda: Model(lambda x, t: x, data=(2,)).save(3), "out"),  # type: ignore[arg-type]
    "a number for a run": (lambda: open_run(3), "folder"),  # type: ignore[arg-type]
    "a number for columns": (lambda: points(3), "columns"),  # type: ignore[arg-type]
    "a word for columns": (lambda: points("ab"), "columns"),
    "a word for a height": (lambda: images("8", 8), "height"),  # type: ignore[arg-type]
    "no pixels": (lambda: images(8, 0), "width"),
    "a class twice": (lambda: images(8, 8, classes=["cat", "cat"]), "classes"),
    "a class of numbers for a modality": (lambda: register_modality(int), "modality"),
    "no modality": (lambda: register_modality(None), "modality"),  # type: ignore[type-var]
    "a null value of a model": (lambda: Model(lambda x, t: x, data=(2,), null=3), "null"),  # type: ignore[arg-type]
    "data in memory": (lambda: Model(lambda x, t: x, data=(2,)).save("x", data={"samples": X}), "data"),  # type: ignore[arg-type]
    "data of 64 bits for weights of 32": (lambda: answered(Net(), FLOW, X.double()), "x_1"),
    "weights on the meta device": (lambda: answered(Net().to("meta")), "x_1"),
}


def dropped(null: float, label: Any) -> Any:
    return draw(replace(FLOW, cond_dropout=0.5, null={"label": null}), X, label=label)


def far(x: Tensor, row: int) -> Tensor:
    """Return points of which one is off the manifold."""
    return torch.where((torch.arange(len(x)) == row).reshape(-1, *(1,) * (x.ndim - 1)), 3 * x, x)


def raised(call: Callable[[], Any]) -> dict[str, Any]:
    try:
        call()
    except Exception as error:
        fields = {name: getattr(error, name, None) for name in ("argument", "expected", "found", "remedy")}
        return {"kind": type(error).__name__, "line": str(error), **fields}
    return {"kind": "none"}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps({name: raised(call) for name, (call, _) in MISTAKES.items()}))
