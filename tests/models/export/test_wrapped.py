"""`feller.Model` of user networks in their own conventions."""

import functools
import math
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import feller
from feller.core.errors import FellerWarning, InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import to_dict
from feller.data.text.modality import Text
from feller.data.text.vocabulary import Characters
from feller.models.export.user_network import with_detected_call
from feller.models.families.sequence_models import AutoregressiveModel
from feller.networks.external import CondDictCall, ExternalNetwork
from feller.paths import Affine, DataPrediction, NoisePrediction
from feller.spaces import MaskSource
from tests.errors import refuses

MEAN, DEVIATION = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])


def denoised(x, t):
    """E[x_1 | x_t] where the data are normal, and x_t = t x_1 + (1 - t) x_0."""
    t = t[:, None]
    gain = t * DEVIATION**2 / ((t * DEVIATION) ** 2 + (1 - t) ** 2)
    return MEAN + gain * (x - t * MEAN)


def noise(x, t):
    """E[x_0 | x_t], finite at t = 1, where x_t tells nothing of it."""
    s = t[:, None]
    return (1 - s) * (x - s * MEAN) / ((s * DEVIATION) ** 2 + (1 - s) ** 2)


def ours(x, t):
    return denoised(x, t) - noise(x, t)


CONVENTIONS = {
    "velocity": ({}, ours),
    "backwards": ({"times": (1.0, 0.0)}, lambda x, s: noise(x, 1 - s) - denoised(x, 1 - s)),
    "steps": (
        {"times": (999.0, 0.0), "objective": Affine(prediction=NoisePrediction())},
        lambda x, step: noise(x, 1 - step / 999),
    ),
    "data": ({"objective": Affine(prediction=DataPrediction())}, denoised),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_samples_of_every_convention(name):
    how, network = CONVENTIONS[name]
    sampling = feller.SamplerConfig("midpoint", 200)
    model = feller.Model(network, data=(2,), sampling=sampling, **how)
    drawn = torch.from_numpy(model.sample(4, rng=Rng(1)).numpy())
    x_0 = model.spec.space.sample_base(4, Rng(1).stream("source"))
    torch.testing.assert_close(drawn, (MEAN + DEVIATION * x_0).double(), atol=2e-3, rtol=1e-3)


def test_log_prob():
    model = feller.Model(ours, data=(2,))
    values = torch.tensor([[1.0, -2.0], [1.5, 0.0]], dtype=torch.float64)
    data = model.sample(2)
    found = model.log_prob(replace(data, values=values))
    normal = torch.distributions.Normal(MEAN.double(), DEVIATION.double())
    torch.testing.assert_close(found, normal.log_prob(values).sum(1), atol=1e-4, rtol=1e-4)


def test_classes_and_guidance():
    seen = []

    def network(x, t, label):
        seen.append(label.tolist())
        return torch.where(label[:, None] == 99, 0.0, 1.0) * torch.ones_like(x)

    model = feller.Model(network, data=(2,), classes=("a", "b"), null={"label": 99})
    field = feller.velocity(model, guidance=3.0)
    assert torch.equal(field(torch.zeros(1, 2), 0.5, label="b"), torch.full((1, 2), 3.0))
    assert seen[-1] == [1, 99]
    drawn = model.sample(3, given={"label": torch.tensor([0, 1, 1])}, guidance=2.0)
    torch.testing.assert_close(
        drawn.values - model.spec.space.sample_base(3, Rng(0).stream("source")),
        torch.full((3, 2), 2.0, dtype=torch.float64),
        atol=1e-5,
        rtol=0,
    )


def test_training():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x, t):
            return self.layer(torch.cat([x, t[:, None]], 1))

    own = Own()
    model = feller.Model(own, data=(2,))
    assert {id(weight) for weight in model.network.parameters()} == {id(weight) for weight in own.parameters()}
    objective = feller.FlowMatching(model.spec.path, model.spec.space)
    example = objective.draw({"x_1": torch.randn(8, 2), "given": {}}, Rng(0), model.network)
    objective.loss(model.network, example).mean().backward()
    assert own.layer.weight.grad.abs().sum() > 0


def test_invalid_outputs_and_times():
    with refuses(UsageError, argument="network", expected="an output of shape [3, 2]", found="[3, 3]"):
        feller.Model(lambda x, t: torch.cat([x, t[:, None]], 1), data=(2,))
    with refuses(UsageError, argument="network", found="NoneType"):
        feller.Model(lambda x, t: None, data=(2,))
    with refuses(UsageError, argument="network"):
        feller.Model(lambda x, t: x @ torch.zeros(5, 5), data=(2,))
    with refuses(UsageError, found="1 twice"):
        feller.Model(ours, data=(2,), times=(1.0, 1.0))
    assert math.isfinite(feller.Model(ours, data=(2,)).sample(1).numpy()[0, 0])


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x, t):
        self.calls += 1
        return x + self.calls


class Summing(nn.Module):
    def __init__(self):
        super().__init__()
        self.sum = torch.zeros(())

    def forward(self, x, t):
        self.sum = torch.zeros_like(x) if self.sum.shape != x.shape else self.sum
        return self.sum.add_(x)


class Dropping(nn.Module):
    """A module that trains otherwise than it samples."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))

    def forward(self, x, t):
        return self.layers(x)


@pytest.mark.parametrize(
    "network",
    [
        lambda x, t: x.neg_(),
        lambda x, t: -x * t.mul_(0.5)[:, None],
        Counting(),
        Summing(),
        lambda x, t: x + torch.randn_like(x),
        lambda x, t: x - x.mean(0),
        lambda x, t: x - x[:1],
        lambda x, t: x - x[-1:],
        lambda x, t: x + torch.arange(len(x))[:, None],
        lambda x, t: x.long(),
        lambda x, t: x > 0,
        lambda x, t: 1j * x,
    ],
)
def test_networks_that_are_no_function_of_each_row(network):
    with refuses(UsageError):
        feller.Model(network, data=(2,))


def test_networks_that_modify_labels():
    with refuses(UsageError):
        feller.Model(lambda x, t, label: x * label.add_(1)[:, None], data=(2,), classes=("a", "b"))


def test_training_mode_is_restored():
    network = Dropping()
    network.layers[1].eval()
    modes = [module.training for module in network.modules()]
    model = feller.Model(network, data=(2,))
    drawn = model.sample(3)
    assert torch.equal(drawn.values, model.sample(3).values)
    feller.velocity(model)(torch.zeros(2, 2), 0.5)
    model.log_prob(drawn)
    assert [module.training for module in network.modules()] == modes
    with pytest.raises(UsageError):
        feller.Model(Summing(), data=(2,))
    evaluated = Dropping().eval()
    feller.Model(evaluated, data=(2,)).sample(2)
    assert not any(module.training for module in evaluated.modules())


@pytest.mark.parametrize(
    "network",
    [
        Dropping(),
        lambda x, t: x,
        lambda x, t: torch.zeros_like(x),
        lambda x, t: (x.bfloat16() @ torch.ones(2, 2, dtype=torch.bfloat16)) / 3,
        lambda x, t: x.double(),
    ],
)
def test_valid_networks(network):
    assert feller.Model(network, data=(2,)).sample(2).numpy().shape == (2, 2)


def test_local_functions_have_no_record():
    with refuses(InputError):
        to_dict(feller.Model(ours, data=(2,)).spec)


class Answer(dict):
    """A dict whose entries are attributes, too, as transformers has them."""

    def __getattr__(self, name):
        return self[name] if name in self else super().__getattribute__(name)


WAYS = {
    "label": lambda x, t, label: -x * label[:, None],
    "dict": lambda x, t, cond: -x * cond["label"][:, None],
    "optional": lambda x, t, cond=None: -x * cond["label"][:, None],
    "sample": lambda x, t, label: Answer(sample=-x * label[:, None]),
    "tuple": lambda x, t, label: (-x * label[:, None],),
    "one entry": lambda x, t, label: {"out": -x * label[:, None]},
    "partial": functools.partial(lambda sign, x, t, label: sign * x * label[:, None], -1.0),
}


@pytest.mark.parametrize("name", WAYS)
def test_call_signatures_and_outputs(name):
    model = feller.Model(WAYS[name], data=(2,), classes=("a", "b", "c"))
    x = torch.ones(3, 2)
    found = model.network(x, torch.full((3,), 0.5), {"label": torch.tensor([0, 1, 2])})
    assert found[:, 0].tolist() == [0.0, -1.0, -2.0]


def test_call_signatures_without_conditions():
    for network in (lambda x, t, given: -x, lambda x: -x, lambda x, t: (-x,)):
        assert feller.Model(network, data=(2,)).sample(2).numpy().shape == (2, 2)


def incomplete_series() -> feller.Dataset:
    values = np.random.default_rng(0).normal(size=(20, 6, 2))
    values[:, :-1][np.random.default_rng(1).random((20, 5, 2)) < 0.3] = np.nan
    return feller.read(values)


def example_of(data, objective):
    states = data.modality.encode(data.values)
    return objective.draw({"x_1": states, "given": data.given}, Rng(0))


@pytest.mark.parametrize("is_optional", [True, False])
def test_networks_are_told_which_entries_are_missing(is_optional):
    data, seen = incomplete_series(), []

    def network(x, t, cond):
        seen.append(cond.get("valid"))
        return -x

    objective = feller.FlowMatching(feller.Affine(), data.modality.space())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = feller.Model(
            (lambda x, t, cond=None: network(x, t, cond)) if is_optional else network, objective, data=data
        )
    objective.loss(model.network, example_of(data, objective))
    assert torch.equal(seen[-1], ~data.values.isnan())
    assert model.sample(2, nfe=2).numpy().shape == (2, 6, 2)


def test_networks_of_recipes_are_told_which_entries_are_missing():
    data = incomplete_series()
    objective = feller.FlowMatching(feller.Affine(), data.modality.space())
    recipe = feller.Recipe(architecture=ExternalNetwork(lambda: lambda x, t, cond=None: -x), objective=objective)
    spec = with_detected_call(recipe.model_spec(data))
    assert spec.architecture.convention == CondDictCall()
    assert with_detected_call(spec) is spec


def test_networks_without_the_mask_of_missing_entries_give_one_warning():
    data = incomplete_series()
    with pytest.warns(FellerWarning) as caught:
        feller.Model(lambda x, t: -x, data=data)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feller.Model(lambda x, t: -x, data=feller.read(data.values.nan_to_num().numpy()))


LAYER = nn.Linear(2, 2)


class Method:
    def __init__(self):
        self.layer = nn.Linear(2, 2)

    def velocity(self, x, t):
        return self.layer(x)

    def __call__(self, x, t):
        return self.layer(x)


def closures():
    layer, method = nn.Linear(2, 2), Method()
    return {
        "closure": lambda x, t: layer(x),
        "global": lambda x, t: LAYER(x),
        "partial": functools.partial(lambda layer, x, t: layer(x), layer),
        "default": lambda x, t, layer=layer: layer(x),
        "within": lambda x, t: (lambda y: layer(y))(x),
        "helper": functools.partial(lambda call, x, t: call(x, t), lambda x, t: layer(x)),
        "method": method.velocity,
        "object": method,
    }


@pytest.mark.parametrize("name", closures())
def test_weights_of_closures(name):
    model = feller.Model(closures()[name], data=(2,))
    assert sum(weight.numel() for weight in model.network.parameters()) == 6
    model.network(torch.ones(1, 2), torch.ones(1), {}).sum().backward()
    assert all(weight.grad is not None for weight in model.network.parameters())


def test_states_of_any_shape(tmp_path):
    model = feller.Model(lambda x, t, label: -x, data=(4, 3, 2), classes=("a", "b"), null={"label": 2})
    drawn = model.sample(3, given={"label": 1}, guidance=2.0, nfe=4)
    assert drawn.numpy().shape == (3, 4, 3, 2)
    assert model.log_prob(drawn).shape == (3,)
    drawn.modality.write(drawn.values, drawn.given, tmp_path / "latents.npz")
    again = feller.read(str(tmp_path / "latents.npz"), like=drawn.modality)
    assert torch.equal(again.values, drawn.values)
    assert again.given["label"].tolist() == [1, 1, 1]


def test_language_model():
    """Its logits say which token follows: after i always i + 1; the first is 1, after what begins a text."""

    class Next(nn.Module):
        def __init__(self):
            super().__init__()
            self.config, self.scale = types.SimpleNamespace(bos_token_id=0), nn.Parameter(torch.tensor(50.0))

        def forward(self, input_ids, past_key_values=None):
            return Answer(logits=self.scale * nn.functional.one_hot((input_ids + 1) % 5, 5).float())

    text = Text(Characters("abcde"), 4, documents=False)
    model = feller.Model(Next(), AutoregressiveModel(), data=text)
    assert model.sample(2).values.tolist() == [[1, 2, 3, 4]] * 2
    nats = model.nll(model.sample(2))
    torch.testing.assert_close(nats, torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_masked_diffusion():
    text = Text(Characters("abcde"), 4, documents=False)

    def third(input_ids):
        return Answer(logits=50.0 * nn.functional.one_hot(torch.full_like(input_ids, 3), 5).float())

    model = feller.Model(third, feller.Mixture(source=MaskSource()), data=text)
    assert model.sample(2, nfe=4).values.tolist() == [[3] * 4] * 2
    with pytest.raises(UsageError):
        feller.Model(lambda x, t: x.float(), feller.Mixture(source=MaskSource()), data=text)


def test_model_of_an_objective():
    names = ("a", "b")
    objective = feller.FlowMatching(
        feller.Affine(prediction=DataPrediction()), feller.Euclidean((2,)), cond_dropout=0.3
    )
    network = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2))
    model = feller.Model(lambda x, t, label: network(x), objective, classes=names, null={"label": 2})
    assert (model.spec.path, model.spec.cond_dropout) == (objective.path, 0.3)
    with pytest.raises(UsageError):
        feller.Model(ours, objective, data=(3,))


def test_classes_by_number():
    model = feller.Model(lambda x, t, label: -x, data=(2,), classes=("cat", "dog"))
    assert model.sample(2, given={"label": 1}).given["label"].tolist() == [1, 1]
    digits = feller.Model(lambda x, t, label: -x, data=(2,), classes=("1", "2"))
    assert digits.sample(2, given={"label": 1}).given["label"].tolist() == [0, 0]
    for names, wrong in ((("cat", "dog"), 2), (("1", "2"), 0)):
        other = feller.Model(lambda x, t, label: -x, data=(2,), classes=names)
        with refuses(UsageError, argument="label", found=repr(str(wrong))):
            other.sample(2, given={"label": wrong})
    with refuses(UsageError, expected="one of red, green, blue, or a number from 0 to 2"):
        feller.Model(lambda x, t, label: -x, data=(2,), classes=("red", "green", "blue")).sample(
            1, given={"label": "r"}
        )


LISTS = ([1, 0, 1], ["dog", "cat", "dog"], ("dog", 0, 1), np.array([1, 0, 1]), torch.tensor([1, 0, 1]))


@pytest.mark.parametrize("label", LISTS)
def test_labels_per_sample(label):
    model = feller.Model(lambda x, t, label: -x, data=(2,), classes=("cat", "dog"))
    assert model.sample(3, given={"label": label}).given["label"].tolist() == [1, 0, 1]
    assert model.sample(2, given={"label": np.int64(1)}).given["label"].tolist() == [1, 1]


def by_class(x, t, label):
    return label[:, None] + 0 * x


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_numeric_class_names(kind):
    for classes, given, positions in (("123", [1, 2, 3, 1], [0, 1, 2, 0]), ("10", [1, 0, 0, 1], [0, 1, 1, 0])):
        model = feller.Model(lambda x, t, label: -x, data=(2,), classes=tuple(classes), null={"label": len(classes)})
        assert model.sample(4, given={"label": kind(given)}).given["label"].tolist() == positions
        drawn = model.sample_dataset(4, given={"label": torch.tensor(positions)})  # as data hold them
        assert drawn.given["label"].tolist() == positions
        field = feller.velocity(feller.Model(by_class, data=(2,), classes=tuple(classes), null={"label": len(classes)}))
        x = torch.zeros(4, 2)
        assert field(x, 0.5, label=kind(given))[:, 0].tolist() == positions
        assert field(x, 0.5, label=torch.full((4,), len(classes)) if classes == "10" else None)[0, 0] == len(classes)
        with refuses(UsageError):
            field(x, 0.5, label=kind([7, 1, 1, 1]))
    letters = feller.Model(lambda x, t, label: -x, data=(2,), classes=("a", "b"), null={"label": 2})
    with refuses(UsageError, argument="label"):
        letters.sample(4, given={"label": kind([0, 1, 2, 1])})


@pytest.mark.parametrize(
    "label",
    [
        [0.0, 1.0, 1.0],
        [1, 1],
        torch.tensor([[0], [1], [1]]),
        torch.tensor([0.0, 1.0, 1.0]),
        torch.tensor([0, 1, 3]),
        1.5,
        None,
    ],
)
def test_invalid_labels(label):
    model = feller.Model(lambda x, t, label: -x, data=(2,), classes=("cat", "dog"))
    with refuses(UsageError, argument="label"):
        model.sample(3, given={"label": label})


def test_labels_of_files(tmp_path):
    images = np.zeros((3, 4, 4), dtype=np.uint8)
    kind = feller.images(4, 4, channels=1, classes=("red", "green", "blue"))
    model = feller.Model(lambda x, t, label: -x, data=kind)

    def labels(names, like=kind):
        np.savez(tmp_path / "some.npz", images=images, labels=np.array(names))
        return feller.read(str(tmp_path / "some.npz"), like=like)

    for names, numbers in (([2, 0, 1], [2, 0, 1]), (["blue", "red", "green"], [2, 0, 1])):
        assert labels(names).given["label"].tolist() == numbers
        assert labels(names, None).with_modality(kind).given["label"].tolist() == numbers
    with refuses(InputError, argument="class", found="'3'"):
        labels([0, 1, 3])
    assert model.log_prob({"samples": images, "labels": np.array([0, 1, 2])}, divergence=feller.Hutchinson()).shape == (
        3,
    )


def rows(number):
    table = nn.Embedding(number, 2)
    return lambda x, t, given: x + table(given["label"])


@pytest.mark.parametrize(
    ("network", "null", "argument"),
    [
        (rows(4), {"label": 1}, "null"),
        (rows(4), {"label": 4}, "null"),
        (rows(4), {"kind": 3}, "null"),
        (rows(2), None, "classes"),
        (rows(2), {"label": 3}, "classes"),
    ],
)
def test_invalid_classes_and_null_values(network, null, argument):
    with refuses(UsageError, argument=argument):
        feller.Model(network, data=(2,), classes=("a", "b", "c"), null=null)
    assert feller.Model(rows(4), data=(2,), classes=("a", "b", "c"), null={"label": 3}).droppable() == ("label",)


def test_guidance_needs_null_values():
    names, objective = ("a", "b", "c"), feller.FlowMatching(feller.Affine(), feller.Euclidean((2,)), cond_dropout=0.0)
    plain = feller.Model(lambda x, t: -x, data=(2,))
    without = feller.Model(rows(4), objective, classes=names)
    never = feller.Model(rows(4), objective, classes=names, null={"label": 3})
    for model, found in ((plain, "one without any"), (without, "no null value"), (never, "cond_dropout 0")):
        with refuses(UsageError, argument="guidance", found=found):
            model.sample(2, guidance=2.0)


def test_nfe_of_solvers():
    model, calls = feller.Model(lambda x, t: -x, data=(2,)), []
    counted = feller.Model(lambda x, t: calls.append(1) or -x, data=(2,))

    def drawn(**how):
        calls.clear()
        counted.sample(2, **how)
        return len(calls)

    for solver, nfe, taken in (
        (feller.Heun(), 5, 4),
        ("rk4", 6, 4),
        (feller.DormandPrince(), 6, None),
        ("dopri5", 6, None),
    ):
        with pytest.warns(UserWarning, match=f"nfe={nfe}"):
            assert drawn(solver=solver, nfe=nfe) == taken or taken is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn(solver=feller.Heun(), nfe=6) == drawn(nfe=6) == 6
        assert drawn(solver=feller.Euler(), nfe=1) == 1
    for solver, least in ((feller.RK4(), 4), ("rk4", 4), (feller.Heun(), 2), (None, 2)):
        with refuses(UsageError, argument="nfe", found=str(least - 1)):
            model.sample(2, solver=solver, nfe=least - 1)


def test_tokens_and_spheres():
    masks = feller.Tokens(5, (3,), MaskSource())
    tokens = feller.FlowMatching(feller.Mixture(source=MaskSource()), masks, feller.CrossEntropy())
    drawn = feller.Model(lambda x, t: torch.zeros(*x.shape, 5), tokens).sample(50).numpy()
    assert drawn.shape == (50, 3)
    assert {*drawn.ravel()} == {0, 1, 2, 3, 4}
    sphere = feller.FlowMatching(feller.Geodesic(feller.Sphere()), feller.Sphere())
    drawn = feller.Model(lambda x, t: torch.ones_like(x), sphere).sample(4).numpy()
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-5)
