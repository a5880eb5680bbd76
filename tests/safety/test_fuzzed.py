"""Damaged files give data or a one-line error."""

import pathlib
import shutil
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from feller.core.errors import MAX_MESSAGE_LENGTH, InputError, UsageError
from feller.data.loading.dataset_reader import read
from tests.safety.damage import damages
from tests.safety.specimen_runs import FILES
from tests.safety.specimens import DATA

SLOW = {"cif", "csv of cif"}
"""Formats that take half a second to read."""


def withstands(whole: bytes, opened: Callable[[pathlib.Path, bytes], object], examples: int) -> None:
    """Damage a file in as many ways, the same ones each time."""
    with tempfile.TemporaryDirectory() as home:
        folder = pathlib.Path(home) / "f"

        def tried(content: bytes) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            opened(folder, content)

        tried(whole)  # it must be read as it is, or nothing is learned from the others

        @settings(
            max_examples=examples,
            deadline=10_000,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(damages())
        def property_(damage: Callable[[bytes], bytes]) -> None:
            try:
                tried(damage(whole))
            except (InputError, UsageError) as error:
                told = str(error)
                assert told
                assert len(told.splitlines()) == 1
                assert len(told) < MAX_MESSAGE_LENGTH + 9

        property_()


@pytest.mark.parametrize("examples", [15, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", DATA)
@pytest.mark.filterwarnings("ignore")
def test_damaged_data(name: str, examples: int) -> None:
    specimen = DATA[name]

    def opened(folder: pathlib.Path, content: bytes) -> object:
        return read(str(specimen.write(folder, content)))

    withstands(specimen.make(), opened, min(examples // 5, 60) if name in SLOW else examples)


@pytest.mark.parametrize("examples", [15, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_damaged_runs(name: str, examples: int) -> None:
    file = FILES[name]
    withstands(file.make(), lambda folder, content: file.read(file.write(folder, content)), examples)
