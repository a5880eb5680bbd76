"""Limits of the size of networks."""

import threading

from torch import nn

from feller.core.errors import InputError
from feller.networks.network_config import limit_parameter_bytes
from tests.errors import refuses


def test_too_many_weights_are_refused() -> None:
    assert isinstance(limit_parameter_bytes(4 * (6 * 7 + 7), lambda: nn.Linear(6, 7)), nn.Linear)
    with refuses(InputError):
        limit_parameter_bytes(195, lambda: nn.Linear(6, 7))


def test_limits_are_per_thread() -> None:
    begun, went_on = threading.Event(), threading.Event()

    def make() -> nn.Linear:
        begun.set()
        assert went_on.wait(10)
        return nn.Linear(2, 2)

    other = threading.Thread(target=lambda: (begun.wait(10), nn.Linear(100, 100), went_on.set()))
    other.start()
    assert limit_parameter_bytes(24, make).weight.shape == (2, 2)
    other.join()
