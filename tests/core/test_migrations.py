"""Renames: older records and weights open under new names of classes, fields, attributes and flags."""

import abc
import json
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from feller.app.cli import main
from feller.app.workflows.fine_tuned_run import read_recipe
from feller.app.workflows.shard_folder import _sampled_as_now
from feller.core import migrations
from feller.core.errors import InputError
from feller.core.migrations import UNSTAMPED, Older, current_format, format_of, migrate, names_before, repr_before
from feller.core.output_shards import ShardedSamples
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, load_weights
from feller.core.serialization import from_dict, to_dict
from feller.models.model import load_model
from feller.networks import MLP, NetworkConfig
from feller.networks.blocks.ema import EMA
from feller.networks.blocks.lora import LoRA
from feller.networks.codebook.conv_tokenizer import ConvTokenizer
from feller.networks.codebook.learned_image_tokenizer import LearnedImageTokenizer
from feller.networks.mlp import ResidualMLP
from feller.sampling.sampler_config import SamplerConfig
from feller.training.checkpoint import read_counters, restore_train_state, train_state_tensors
from feller.training.loop import make_train_state
from feller.training.optimizer import TrainConfig
from tests.safety.specimen_runs import copied
from tests.safety.test_formats import DRAWN

OURS = "feller.made_up"
"""Module that the made-up classes say they are of: others keep their names."""
SINCE = current_format() - 1
"""Format in which all had other names."""


class Route(abc.ABC):
    """Routes and regions may have had the same name."""

    @abc.abstractmethod
    def go(self) -> None: ...


class Region(abc.ABC):
    @abc.abstractmethod
    def lie(self) -> None: ...


@dataclass(frozen=True)
class Steps(Route):
    step_size: float = 1.0
    """Was `by`."""

    def go(self) -> None: ...


@dataclass(frozen=True)
class ProductRoute(Steps):
    """Was `Product`."""

    leaf_routes: tuple[Route, ...] = ()
    """Was `parts`."""


@dataclass(frozen=True)
class Product(Region):
    """Was `Product`, too."""

    parts: int = 0

    def lie(self) -> None: ...


@dataclass(frozen=True)
class Mine(Route):
    """Of a user: its field is called as one of a class of feller was."""

    by: int = 0

    def go(self) -> None: ...


@dataclass(frozen=True)
class Plan:
    """Was without a name in records, and its `route` was `path`."""

    route: Route
    region: Region = Product()
    rest: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OneShare:
    """Its only field was `law`."""

    share: float


@dataclass(frozen=True)
class Shares:
    shares: float
    other: float = 0.0


@dataclass(frozen=True)
class Budget:
    of: OneShare | Shares | None = None


class Layer(nn.Module):
    """Its `fc` was `first`."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.register_buffer("count", torch.zeros(()))


class Wide(Layer):
    """Its own `gain` was `share`."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(2))


class Net(nn.Module):
    """Its `blocks` were `first`, and its `first` was `enter`: names that move along."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.blocks = nn.ModuleList([Layer(), nn.ModuleList([Wide()])])
        self.by_name = nn.ParameterDict({"fc": torch.ones(1)})

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, given: dict) -> torch.Tensor:
        return self.first(x_t)


TABLE: dict[str, Any] = {
    "classes": {"Product": ["ProductRoute"], "Walk": ["Steps"], "Mine": ["Steps"]},
    "fields": {
        "Product": {},
        "Steps": {"by": "step_size"},
        "ProductRoute": {"parts": "leaf_routes"},
        "Plan": {"path": "route"},
        "OneShare": {"law": "share"},
    },
    "attributes": {
        "Layer": {"first": "fc", "seen": "count"},
        "Wide": {"share": "gain"},
        "Net": {"first": "blocks", "enter": "first"},
    },
    "flags": {
        "--train.batch": "--train.batch-size",
        "--train.replay": "--train.reuse-batches",
        "--path.by": {"Steps": "--route.step-size", "Other": "--route.other"},
        "--longest": "--max-size",
    },
}
OLD_KEYS = [
    *("enter.weight", "enter.bias", "first.0.seen", "first.0.first.weight", "first.0.first.bias", "first.1.0.share"),
    *("first.1.0.seen", "first.1.0.first.weight", "first.1.0.first.bias", "by_name.fc"),
]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Register the renames of the classes above as those after the last format."""
    held = migrations.renames()
    last = {what: {**held.get(SINCE, {}).get(what, {}), **names} for what, names in TABLE.items()}
    found = {**held, SINCE: last}
    monkeypatch.setattr(migrations, "renames", lambda: found)
    for kind in (Route, Region, Steps, ProductRoute, Product, Plan, OneShare, Layer, Wide, Net):
        monkeypatch.setattr(kind, "__module__", OURS)
    return last


def older(content: Any) -> Any:
    return Older.of(content, SINCE)


def test_renamed_classes_resolve_by_the_expected_type(table: dict[str, Any]) -> None:
    record = {"path": {"is": "Product", "parts": [{"is": "Walk", "by": 2.0}], "by": 3.0}, "region": {"is": "Product"}}
    assert from_dict(Plan, older(record)) == Plan(ProductRoute(3.0, (Steps(2.0),)), Product())
    assert from_dict(Region, older({"is": "Product", "parts": 2})) == Product(2)


def test_unions_of_records_resolve_renamed_fields(table: dict[str, Any]) -> None:
    assert from_dict(Budget, older({"of": {"law": 1.0}})) == Budget(OneShare(1.0))
    assert from_dict(Budget, older({"of": {"shares": 1.0}})) == Budget(Shares(1.0))
    assert from_dict(Budget, older({"of": None})) == Budget()
    assert from_dict(Budget, {"of": {"share": 1.0}}) == Budget(OneShare(1.0))
    for record in ({"of": {"law": 1.0}}, older({"of": {"none": 1.0}})):
        with pytest.raises(InputError):
            from_dict(Budget, record)


def test_user_classes_are_not_renamed(table: dict[str, Any]) -> None:
    assert from_dict(Route, older({"is": "Mine", "by": 2})) == Mine(2)


def test_records_of_the_current_format_are_not_renamed(table: dict[str, Any]) -> None:
    assert from_dict(Plan, {"route": {"is": "Steps"}}) == Plan(Steps())
    for record in ({"path": {"is": "Steps"}}, {"route": {"is": "Walk"}}, {"route": {"is": "Steps", "by": 1.0}}):
        with pytest.raises(InputError):
            from_dict(Plan, Older.of(record, current_format()))


@pytest.mark.parametrize(
    "record",
    [
        {"path": {"is": "Region"}},
        {"path": {"is": ["Walk"]}},
        {"path": {"is": "Walk", "by": 1.0, "step_size": 2.0}},
        {"path": {"is": "Walk", "parts": []}},
        {"path": {"is": "Walk"}, "route": {"is": "Walk"}},
    ],
)
def test_ambiguous_or_foreign_old_names_are_refused(record: dict[str, Any], table: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        from_dict(Plan, older(record))


def test_weights_load_under_renamed_attributes(table: dict[str, Any]) -> None:
    net = Net()
    assert sorted(names_before(net, net.state_dict()).values()) == sorted(OLD_KEYS)
    before = names_before(net, net.state_dict())
    old = {before[name]: value + 1 for name, value in net.state_dict().items()}
    wanted = {name: value + 1 for name, value in net.state_dict().items()}
    load_weights(old, net)
    assert all(torch.equal(value, wanted[name]) for name, value in net.state_dict().items())
    mixed = {**old, "first.weight": old["enter.weight"]}
    del mixed["enter.weight"]
    with pytest.raises(RuntimeError):
        load_weights(mixed, net)


@pytest.mark.parametrize("rank", [None, 2])
def test_train_states_resume_under_renamed_attributes(rank: int | None, table: dict[str, Any]) -> None:
    def fresh(seed: int) -> Any:
        torch.manual_seed(seed)
        net = Net() if rank is None else LoRA(Net(), rank, Rng(seed))
        state = make_train_state(net, TrainConfig(steps=2))
        for weight in net.parameters():
            weight.grad = torch.ones_like(weight) if weight.requires_grad else None
        state.optimizer.step()
        state.ema.update()
        return state

    one, two = fresh(0), fresh(1)
    before = names_before(one.network, one.network.state_dict())
    old = {}
    for name, value in train_state_tensors(one).items():
        part, _, rest = name.partition("/")
        old[f"{part}/{before.get(rest, rest)}"] = value
    held = "network/network.enter.weight" if rank else "network/enter.weight"
    assert held in old
    assert rank is None or "network/second.enter/weight" in old
    assert old.keys() != train_state_tensors(one).keys()
    restore_train_state(two, old)
    wanted = train_state_tensors(one)
    assert wanted.keys() == train_state_tensors(two).keys()
    assert all(torch.equal(value, wanted[name]) for name, value in train_state_tensors(two).items())


def test_an_ema_state_of_another_network_is_refused(table: dict[str, Any]) -> None:
    state = EMA(Net()).state_dict()
    with pytest.raises(InputError):
        EMA(Net()).load_state_dict({**state, "enter.weight": state["first.weight"]})


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--train.batch", "16"], ["--train.batch-size", "16"]),
        (["--train.batch=16", "--train.lr", "1"], ["--train.batch-size=16", "--train.lr", "1"]),
        (["--train.no-replay", "--path.by", "2"], ["--train.no-reuse-batches", "--route.step-size", "2"]),
        (["--path.no-by", "train.batch", "-n"], ["--route.no-step-size", "train.batch", "-n"]),
    ],
)
def test_renamed_flags_and_config_fields_migrate(words: list[str], wanted: list[str], table: dict[str, Any]) -> None:
    config = {"data": "a", "longest": 8}
    recipe = {"path": {"is": "Walk"}, "fields": [{"is": "Walk"}]}
    record = {"config": config, "provenance": {"fields": words}, "recipe": recipe}
    found = migrate("recipe.json", {"format": SINCE, **record})
    assert found == {"config": {"data": "a", "max_size": 8}, "provenance": {"fields": wanted}, "recipe": recipe}
    assert migrate("recipe.json", {"format": current_format(), **record}) == record
    assert migrate("recipe.json", {"format": format_of(found), **found}) == found


def test_fields_of_old_records_are_read_by_their_new_names(table: dict[str, Any], tmp_path: pathlib.Path) -> None:
    run = Run(tmp_path)
    run.recipe.write_text(json.dumps({"format": SINCE, "recipe": {"path": {"is": "Walk"}, "parts": 1}}))
    assert run.read_field(run.recipe, "recipe", "route") == {"is": "Walk"}
    assert run.read_field(run.recipe, "recipe", "leaf_routes") == 1
    with pytest.raises(InputError):
        run.read_field(run.recipe, "recipe", "step_size")


def test_shards_of_an_older_sampler_config_resume(table: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table["fields"], "SamplerConfig", {"count": "nfe"})
    now = json.loads(json.dumps(to_dict(SamplerConfig("midpoint", 4))))
    before = {"count" if name == "nfe" else name: value for name, value in now.items()}
    shards = ShardedSamples(pathlib.Path("a"), 2, 1, "{shard}.npz", {"seed": 1, "sampling": older(before)})
    assert _sampled_as_now(shards).settings == {"seed": 1, "sampling": now}


def test_fingerprints_use_the_old_names(table: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(ProductRoute(2.0, (Steps(),)), Product(), {"a": 1.0})
    assert repr_before((plan,)) == (
        "(Plan(path=Product(by=2.0, parts=(Walk(by=1.0),)), region=Product(parts=0), rest={'a': 1.0}),)"
    )
    assert repr_before([1, "a", (2.5,), Mine(1)]) == repr([1, "a", (2.5,), Mine(1)])
    codes = LearnedImageTokenizer(ConvTokenizer(width=8, blocks=0), (1, 8, 8))
    name = codes.name
    kind = type(codes.network)
    now = next(iter(codes.network._modules))
    others = {old: new for old, new in table["attributes"].get(kind.__name__, {}).items() if new != now}
    old = next((old for old in table["attributes"].get(kind.__name__, {}) if old not in others), now)
    monkeypatch.setitem(table["attributes"], kind.__name__, {**others, f"a_{old}": now})
    assert codes.name != name  # which it would be of the other names
    modules = {"renamed" if key == now else key: value for key, value in codes.network._modules.items()}
    monkeypatch.setitem(table["attributes"], kind.__name__, {**others, old: "renamed"})
    monkeypatch.setattr(codes.network, "_modules", modules)
    assert codes.name == name


@dataclass(frozen=True)
class Perceptron(NetworkConfig):
    """`MLP` under another name, with other names of its fields and of its network's attributes."""

    features: int = 256
    depth: int = 4
    frequencies: int = 0
    period: float | None = None
    ends: int = 0

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], rng: Rng) -> nn.Module:
        settings = MLP(self.features, self.depth, self.frequencies, self.period, self.ends)
        network = settings.build(shape, conditions, rng)
        network._modules = {"lift" if key == "embed" else key: one for key, one in network._modules.items()}
        network.__class__ = PerceptronNetwork
        return network


class PerceptronNetwork(ResidualMLP):
    embed = property(lambda self: self.lift)


@pytest.fixture
def no_mlp() -> Iterator[None]:
    """Rename the class, so that no record names it."""
    MLP.__name__ = "Gone"
    yield
    MLP.__name__ = "MLP"


@pytest.mark.usefixtures("no_mlp")
def test_an_old_run_opens_and_resumes_after_renames(
    table: dict[str, Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (Perceptron, PerceptronNetwork):
        monkeypatch.setattr(kind, "__module__", OURS)
    monkeypatch.setitem(table["classes"], "MLP", ["Perceptron"])
    monkeypatch.setitem(table["fields"], "Perceptron", {"width": "features"})
    monkeypatch.setitem(table["attributes"], "PerceptronNetwork", {"enter": "lift"})
    run = copied(tmp_path / "r", SINCE)
    model = load_model(run)
    assert isinstance(model.spec.architecture, Perceptron)
    drawn = model.sample_dataset(3, rng=Rng(7)).values
    torch.testing.assert_close(drawn, torch.tensor(DRAWN[SINCE]).double(), rtol=1e-4, atol=1e-5)
    assert main(["fit", "--resume", "--out", str(run.path), "--steps", "6", "--report", "none"]) == 0
    assert read_counters(run)["step"] == 6
    for file in (run.weights, run.ema_weights, run.state):
        names = {name.removeprefix("network/").removeprefix("average/") for name in load_tensors(file)[0]}
        assert "lift.weight" in names
        assert not names & {"embed.weight", "enter.weight"}
    assert json.loads(run.model.read_text())["format"] in (SINCE, current_format())
    assert load_model(run).sample_dataset(1, rng=Rng(7)).values.isfinite().all()


@pytest.mark.parametrize("written", range(migrations.OLDEST_FORMAT, current_format()))
def test_exports_of_older_runs_open(written: int, tmp_path: pathlib.Path) -> None:
    run, out = copied(tmp_path / "r", written), tmp_path / "e"
    assert main(["export", str(run.path), "--to", "huggingface", "--out", str(out)]) == 0
    assert json.loads((out / "recipe.json").read_text())["format"] == written
    assert read_recipe(Run(out)) == read_recipe(run)
    assert load_model(Run(out)).sample_dataset(2, rng=Rng(7)).values.isfinite().all()


def test_rename_tables_are_invertible_and_acyclic() -> None:
    tables = migrations.renames()
    assert [*tables] == [*range(migrations.OLDEST_FORMAT, current_format())]
    assert max(tables) >= UNSTAMPED
    for held in tables.values():
        assert held.keys() == {"classes", "fields", "attributes", "flags"}
        for names in (*held["fields"].values(), *held["attributes"].values()):
            assert len({*names.values()}) == len(names)
        for names in held["attributes"].values():
            for name in names:
                now, seen = names[name], {name}
                while now in names and now not in seen:
                    seen.add(now)
                    now = names[now]
                assert now not in seen, name
        words = {word for now in held["flags"].values() for word in (now.values() if isinstance(now, dict) else [now])}
        assert not words & held["flags"].keys()
