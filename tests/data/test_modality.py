"""Registration of classes in a process that has only imported the model."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import feller
from feller.data.modality import Modality
from feller.networks.network_config import NetworkConfig
from feller.paths.path import Path
from feller.paths.schedules import Schedule
from feller.spaces import Space

FIND = """
import feller.models.model
from feller.core.serialization import _subclasses
from {base.__module__} import {base.__name__} as base
print(*(kind.__name__ for kind in _subclasses(base)))
"""


def concrete(base: type) -> set[str]:
    """Return the names of all concrete subclasses in the package."""
    names = set()
    for module in pkgutil.walk_packages(feller.__path__, "feller."):
        if module.name.endswith("__main__"):
            continue
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, base) and not inspect.isabstract(kind) and kind.__module__ == module.name:
                names.add(kind.__name__)
    return names


@pytest.mark.slow
@pytest.mark.parametrize("base", [Modality, Path, Space, NetworkConfig, Schedule])
def test_classes_are_registered_in_a_fresh_process(base: type) -> None:
    code = FIND.format(base=base)
    known = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(concrete(base)) >= 5
    assert concrete(base) <= set(known)
