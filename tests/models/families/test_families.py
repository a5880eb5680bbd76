"""Model families: records, capabilities, infilling."""

import inspect
import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.migrations import add_families, migrate
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.modality import Target
from feller.models.families.block_diffusion_model import BlockDiffusionModel
from feller.models.families.edit_model import EditModel
from feller.models.families.model_family import (
    LogProbRequest,
    ModelFamily,
    PartialObservation,
    SampleRequest,
    family_for,
)
from feller.models.families.path_process import BridgeProcess, PathProcess
from feller.models.families.predictive_models import (
    AutoencoderModel,
    EmbeddingModel,
    ExpectationModel,
    LatentAutoencoderModel,
    PlannerModel,
    RegressionModel,
    VocoderModel,
)
from feller.models.families.sequence_models import (
    AutoregressiveModel,
    DocumentModel,
    GraphicalModel,
    HistoryModel,
    TableModel,
)
from feller.networks.sequence.causal_transformer import CausalTransformer
from feller.paths import Affine, EditFlow, Mixture, ProductPath
from feller.paths.brownian import BrownianBridge
from feller.paths.path import Cond
from feller.paths.processes import Characteristics, clamp
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Euclidean, HistoryTokens, MaskSource, Sequences, Tokens, UniformSource
from feller.spaces import Product as ProductSpace
from feller.spaces.table_tokens import CategoryTokenizer, TableTokens
from feller.training.objective import FlowMatching, Objective
from feller.training.objectives.adversarial_autoencoding import AdversarialAutoencoding
from feller.training.objectives.autoencoding import AutoencodingLoss, SpectralLoss
from feller.training.objectives.frame_infilling import Infilling
from feller.training.objectives.history_likelihood import HistoryLikelihood
from feller.training.objectives.marginal_fitting import MarginalFitting
from feller.training.objectives.next_token_prediction import NextTokenPrediction, RowLikelihood
from feller.training.objectives.regression import Regression
from tests.errors import refuses


class Sure(nn.Module):
    null_values: dict[str, int] = {}  # noqa: RUF012 - nothing to be without

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        logits = torch.tensor([0.0, 0.0, 30.0, 0.0])
        return logits.expand(*x_t.shape, 4)


FAMILIES = [
    AutoencoderModel(),
    LatentAutoencoderModel(),
    AutoregressiveModel(),
    BlockDiffusionModel(),
    BridgeProcess(BrownianBridge(1.0)),
    DocumentModel(),
    EditModel(EditFlow(space=Sequences(3, 4))),
    EmbeddingModel(),
    ExpectationModel(),
    GraphicalModel(),
    HistoryModel(),
    PathProcess(Affine()),
    PathProcess(Mixture()),
    PlannerModel(Mixture(source=MaskSource())),
    RegressionModel(Target(("a",), (0.0,), (1.0,))),
    TableModel(any_order=False),
    VocoderModel(),
]
DRAWING = {
    AutoregressiveModel,
    BlockDiffusionModel,
    DocumentModel,
    EditModel,
    GraphicalModel,
    HistoryModel,
    PathProcess,
    TableModel,
}
LATENT = {
    "infill": {AutoregressiveModel, GraphicalModel, HistoryModel, TableModel},
    "rows": {GraphicalModel, HistoryModel, TableModel},
}


def request(n: int, space: Any, **more: Any) -> SampleRequest:
    return SampleRequest(n=n, space=space, **{"sampling": SamplerConfig("euler", 8), **more})


def test_families_are_complete_with_unique_names() -> None:
    ours = [kind for kind in every(ModelFamily) if kind.__module__.startswith("feller.")]
    kinds = {kind for kind in ours if not inspect.isabstract(kind)}
    assert kinds == {type(family) for family in FAMILIES}
    assert len({kind.name for kind in kinds}) == len(kinds)


def every(base: type) -> set[type]:
    return {kind for one in base.__subclasses__() for kind in {one} | every(one)}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.describe())
def test_properties_of_families(family: ModelFamily) -> None:
    assert from_dict(ModelFamily, json.loads(json.dumps(to_dict(family)))) == family
    kind = type(family)
    assert family.describe()
    assert bool(family.why_no_samples) == (kind not in DRAWING)
    tokens = kind is PathProcess and family.require_path().is_discrete
    assert family.is_discrete == (tokens or kind in LATENT["infill"] | {BlockDiffusionModel, EditModel})
    assert family.has_row_likelihood == (kind in LATENT["rows"])
    assert family.is_process == (kind in (BlockDiffusionModel, EditModel, PathProcess))
    assert (family.prediction_target is not None) == (kind is RegressionModel)
    if kind not in DRAWING:
        with pytest.raises(UsageError):
            family.sample(Sure(), request(1, Euclidean((2,))), Rng(0))
        with pytest.raises(UsageError):
            family.check_request(request(1, Euclidean((2,))))
    if not (tokens or kind in LATENT["infill"] | {BlockDiffusionModel, EditModel, PathProcess}):
        asked = LogProbRequest(x_1=torch.zeros(1, 2), cond={}, space=Euclidean((2,)))
        with pytest.raises(UsageError):
            family.log_prob(Sure(), asked, Rng(0))
    if kind not in (BlockDiffusionModel, EditModel, PathProcess, BridgeProcess):
        with pytest.raises(UsageError):
            family.require_path()
    if family != PathProcess(Affine()):
        with pytest.raises(UsageError):
            family.check_flow()


def test_family_of_objectives() -> None:
    target, space = Target(("a",), (0.0,), (1.0,)), Euclidean((2,))
    rows = TableTokens((CategoryTokenizer(3), CategoryTokenizer(2)))
    named = {
        FlowMatching(Affine(), space): PathProcess(Affine()),
        FlowMatching(BrownianBridge(0.5), space): PathProcess(BrownianBridge(0.5)),
        NextTokenPrediction(Tokens(4, (5,))): AutoregressiveModel(),
        RowLikelihood(rows): TableModel(),
        RowLikelihood(rows, shuffle_prob=0.0): TableModel(any_order=False),
        MarginalFitting(rows): GraphicalModel(),
        HistoryLikelihood(HistoryTokens(rows, rows, 2)): HistoryModel(),
        Regression(target, space): RegressionModel(target),
        AutoencodingLoss(space): AutoencoderModel(),
        AdversarialAutoencoding(space): LatentAutoencoderModel(),
        SpectralLoss(Euclidean((4096,))): VocoderModel(),
        Infilling(): PathProcess(Affine()),
        Infilling(None): ExpectationModel(),
    }
    for objective, family in named.items():
        assert family_for(objective) == family
        assert from_dict(Objective, to_dict(objective)) == objective


class Other(NextTokenPrediction):
    family = "nobody's"


def test_unknown_family() -> None:
    with refuses(UsageError):
        family_for(Other(Tokens(4, (5,))))


@dataclass(frozen=True)
class Constant(ModelFamily):
    """A family of somebody's own: all samples are one number."""

    name: ClassVar[str] = "constant"

    def describe(self) -> str:
        return "says one number"

    def sample(self, network: Any, request: SampleRequest, rng: Rng) -> Any:
        x = torch.full((request.n, 1), 7.0)
        return x, x


def test_custom_family() -> None:
    class Own(NextTokenPrediction):
        family = "constant"

    family = family_for(Own(Tokens(4, (5,))))
    _, x_1 = family.sample(None, request(3, Euclidean((1,))), Rng(0))
    assert x_1.tolist() == [[7.0]] * 3


OLD_TARGET = {"names": ["a"], "means": [0.0], "scales": [1.0], "classes": [], "among": []}
TARGET = {"names": ["a"], "means": [0.0], "scales": [1.0], "classes": [], "all_classes": []}


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ({"is": "Affine"}, {"is": "PathProcess", "path": {"is": "Affine"}}),
        ({"is": "Brownian", "noise": 1.0}, {"is": "BridgeProcess", "path": {"is": "Brownian", "noise": 1.0}}),
        ({"is": "AnyOrder", "anyhow": False}, {"is": "TableModel", "any_order": False}),
        ({"is": "Estimates", "about": OLD_TARGET}, {"is": "RegressionModel", "target": TARGET}),
        ({"is": "Codes"}, {"is": "AutoencoderModel"}),
    ],
)
def test_migrated_model_records(path: dict[str, Any], family: dict[str, Any]) -> None:
    found = migrate("model.json", {"format": 1, "path": path, "drop": 0.0})
    assert found.keys() == {"family", "drop"}
    if "path" in family:
        assert found["family"] == family
    else:
        assert json.loads(json.dumps(to_dict(from_dict(ModelFamily, found["family"])))) == family


def test_migrated_objectives() -> None:
    old = {"is": "Regression", "path": {"is": "Estimates", "about": {"names": ["a"]}}, "noise": 0.0}
    found = add_families("recipe.json", {"recipe": {"objective": old}})["recipe"]["objective"]
    assert found == {"is": "Regression", "target": {"names": ["a"]}, "noise": 0.0}
    filled = {"rhythm": {"rule": {"is": "Infilling", "path": {"is": "Filled"}}}}
    assert add_families("recipe.json", filled)["rhythm"]["rule"] == {"is": "Infilling", "path": None}
    assert add_families("recipe.json", {"recipe": {"is": "Own", "path": {"is": "Mine"}}})["recipe"]["path"]


def of_mixture(source: Any, known: PartialObservation, **more: Any) -> list[list[int]]:
    """Draw five of four symbols, all 2."""
    seed = more.pop("seed", 0)
    asked = request(len(known.mask), Tokens(4, known.mask.shape[1:], source), observed=known, **more)
    return PathProcess(Mixture(source=source)).sample(Sure(), asked, Rng(seed))[1].tolist()


@pytest.mark.parametrize("source", [MaskSource(), UniformSource()])
def test_observed_tokens_are_kept(source) -> None:
    kept = torch.tensor([[True, False, True, False, False]]).expand(3, -1)
    assert (
        of_mixture(source, PartialObservation(torch.tensor([[3, 0, 1, 0, 0]]).expand(3, -1), kept))
        == [[3, 2, 1, 2, 2]] * 3
    )


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("source", [MaskSource(), UniformSource()])
def test_no_eos_before_observed_tokens(source, guidance: float) -> None:
    """Symbol 2, of which the network is sure, ends a text: what is behind a gap would be lost with it."""
    known = PartialObservation(torch.tensor([[3, 0, 1, 0, 0]]), torch.tensor([[True, False, True, False, False]]))
    filled = [of_mixture(source, known, guidance=guidance, eos_token_id=2, seed=seed)[0] for seed in range(30)]
    assert {(row[0], *row[2:]) for row in filled} == {(3, 1, 2, 2)}
    assert {row[1] for row in filled} == {0, 1, 3}


@pytest.mark.parametrize("symbol", [4, -1, 99])
def test_observed_tokens_out_of_range(symbol: int) -> None:
    known = PartialObservation(torch.tensor([[symbol, 0]]), torch.tensor([[True, False]]))
    with refuses(UsageError):
        of_mixture(MaskSource(), known)


def test_observed_tokens_of_an_autoregressive_model() -> None:
    network = CausalTransformer(4, width=16, depth=1, heads=2).build((5,), {}, Rng(0))
    known = PartialObservation(torch.tensor([[3, 0, 1, 0, 0]]), torch.tensor([[True, False, True, False, False]]))
    _, x_1 = AutoregressiveModel().sample(network, request(1, Tokens(4, (5,)), observed=known), Rng(0))
    assert x_1[0, 0] == 3
    assert x_1[0, 2] == 1


def test_continuous_models_do_not_infill() -> None:
    known = PartialObservation(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))
    with refuses(UsageError):
        PathProcess(Affine()).check_request(request(1, Euclidean((2,)), observed=known))


def test_clamp() -> None:
    known = torch.tensor([[True, False]])
    now = clamp(lambda x, t: Characteristics(x + 1, torch.ones_like(x)), known)(torch.zeros(1, 2), torch.zeros(1))
    assert now.velocity.tolist() == [[0, 1]]
    assert now.diffusion.tolist() == [[0, 1]]


class Beside(Sure):
    """Answers for a number and a token that the number is what the token says: 10 times it."""

    def forward(self, x_t: dict[str, Tensor], t: dict[str, Tensor], given: Cond) -> dict[str, Tensor]:
        self.times.append({name: time[0].item() for name, time in t.items()})
        logits = 30 * torch.nn.functional.one_hot((x_t["number"][:, :1] / 10).round().long().clamp(0, 3), 4)
        goal = torch.where(x_t["token"] < 4, 10.0 * x_t["token"], 5.0)
        return {"number": (goal - x_t["number"]) / (1 - t["number"][:, None]), "token": logits.float()}


@pytest.mark.parametrize("leaf", ["number", "token"])
def test_clamped_leaf(leaf: str) -> None:
    network = Beside()
    network.times = []
    family = PathProcess(ProductPath({"number": Affine(), "token": Mixture(source=MaskSource())}))
    space = ProductSpace({"number": Euclidean((1,)), "token": Tokens(4, (1,), MaskSource())})
    fixed = {"number": torch.tensor([[20.0], [30.0]]), "token": torch.tensor([[2], [3]])}
    _, x_1 = family.sample(network, request(2, space, clamped={leaf: fixed[leaf]}), Rng(0))
    assert torch.equal(x_1["token"], fixed["token"])
    torch.testing.assert_close(x_1["number"], fixed["number"])
    other = {"number": "token", "token": "number"}[leaf]
    assert [time[leaf] for time in network.times] == [1.0] * 8
    assert [time[other] for time in network.times] == [i / 8 for i in range(8)]
