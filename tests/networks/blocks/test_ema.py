"""Exponential moving average of weights."""

import pytest
import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError
from feller.networks import EMA
from tests.errors import refuses


class Toy(nn.Module):
    """One weight and two buffers."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=dtype))
        self.register_buffer("scale", torch.tensor([3.0], dtype=dtype))
        self.register_buffer("count", torch.tensor(0))

    def move(self, step: int) -> None:
        with torch.no_grad():
            self.weight.add_(torch.tensor([0.5, 0.1]) * (step + 1))
            self.scale.fill_(step)
            self.count += 1


def run(average: EMA, network: Toy, steps: range) -> list[Tensor]:
    weights = []
    for step in steps:
        network.move(step)
        average.update()
        weights.append(network.weight.detach().clone())
    return weights


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_ema_closed_form(decay: float) -> None:
    network = Toy(torch.float64)
    start = network.weight.detach().clone()
    average = EMA(network, decay)
    weights = run(average, network, range(40))
    keep = torch.tensor([min(decay, (1 + n) / (10 + n)) for n in range(40)], dtype=torch.float64)
    later = [keep[n:].prod() for n in range(41)]
    share = torch.stack([later[0], *((1 - keep[n]) * later[n + 1] for n in range(40))])
    assert share.sum().item() == pytest.approx(1)
    wanted = share @ torch.stack([start, *weights])
    torch.testing.assert_close(average.state_dict()["weight"], wanted)


def test_the_network_is_unchanged() -> None:
    network = Toy()
    average = EMA(network)
    network.move(0)
    before = network.weight.detach().clone()
    average.update()
    assert torch.equal(network.weight, before)
    assert network.weight.grad is None
    assert not average.state_dict()["weight"].requires_grad
    network.move(1)
    assert average.state_dict()["scale"].item() == 0  # own tensors, also for buffers


def test_buffers_are_copied() -> None:
    network = Toy()
    average = EMA(network)
    run(average, network, range(3))
    assert average.state_dict()["count"].item() == 3
    assert average.state_dict()["count"].dtype == torch.long
    assert average.state_dict()["scale"].item() == 2


@pytest.mark.parametrize(
    ("dtype", "held"), [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)]
)
def test_held_in_float32_at_least(dtype: torch.dtype, held: torch.dtype) -> None:
    """Steps of 1/1000 of a weight would be lost in bfloat16."""
    network = Toy(dtype)
    average = EMA(network, 0.999)
    with torch.no_grad():
        network.weight.fill_(2)
    for _ in range(20_000):
        average.update()
    assert average.state_dict()["weight"].dtype == held
    torch.testing.assert_close(average.state_dict()["weight"], torch.full((2,), 2, dtype=held), rtol=1e-3, atol=0)
    other = Toy(dtype)
    average.copy_to(other)
    assert other.weight.dtype == dtype
    torch.testing.assert_close(other.weight, torch.full((2,), 2, dtype=dtype), check_dtype=False)


def test_resume_is_exact() -> None:
    network = Toy()
    average = EMA(network, 0.99)
    run(average, network, range(7))
    state = {name: value.clone() for name, value in average.state_dict().items()}
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    run(average, network, range(7, 20))

    resumed = Toy()
    resumed.load_state_dict(weights)
    again = EMA(resumed, 0.99)
    again.load_state_dict(state)
    assert again.num_updates == 7
    run(again, resumed, range(7, 20))
    assert average.state_dict().keys() == again.state_dict().keys()
    for name, value in average.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_copy_to() -> None:
    network, other = Toy(), Toy()
    average = EMA(network)
    run(average, network, range(5))
    average.copy_to(other)
    state = average.state_dict()
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name])
    other.move(9)
    assert torch.equal(average.state_dict()["weight"], state["weight"])
    assert average.state_dict()["scale"].item() == 4


def test_mismatched_states_are_refused() -> None:
    average = EMA(Toy())
    state = average.state_dict()
    with refuses(InputError):
        average.load_state_dict({name: value for name, value in state.items() if name != "weight"})
    with refuses(InputError):
        average.load_state_dict(state | {"other": torch.zeros(1)})
    with refuses(InputError):
        average.load_state_dict(state | {"weight": torch.zeros(3)})


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decays_out_of_range_are_refused(decay: float) -> None:
    with refuses(UsageError, argument="decay"):
        EMA(Toy(), decay)


def test_the_averaged_network_is_in_evaluation_mode() -> None:
    network = Toy()
    average = EMA(network, 0.5)
    run(average, network, range(3))
    averaged = average.network
    assert torch.equal(averaged.weight, average.state_dict()["weight"])
    assert not averaged.training
    assert not any(weight.requires_grad for weight in averaged.parameters())
    assert network.training
    assert network.weight.requires_grad


def test_compiled_networks_have_the_same_average() -> None:
    plain, compiled = Toy(), Toy()
    wrapped = torch.compile(compiled, backend="eager")
    one, other = EMA(plain, 0.5), EMA(wrapped, 0.5)
    run(one, plain, range(4))
    run(other, compiled, range(4))
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert type(other.network) is Toy
