"""JSON records of frozen dataclasses, and their safety against foreign records."""

import json
import pathlib
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from feller.core.errors import InputError
from feller.core.output_shards import open_shards
from feller.core.run_folder import Run
from feller.core.serialization import USER_FUNCTIONS, from_dict, read_json, replace_file, to_dict, write_json
from feller.paths import Path
from feller.paths.schedules import CustomSchedule, Linear, Polynomial, Schedule
from feller.paths.time_distributions import LogitNormal, Rescaled, Shifted, TimeDistribution
from feller.sampling import DormandPrince, Solver
from feller.spaces import Space, Tokens
from feller.training.couplings import Coupling
from tests.errors import refuses
from tests.properties.examples import BASES, Case, cases, recordable


@dataclass(frozen=True)
class Settings:
    """A configuration with plain fields, nested configurations and containers of both."""

    law: TimeDistribution
    paths: dict[str, Path] = field(default_factory=dict)
    grid: tuple[float, ...] = ()
    name: str | None = None
    steps: int = 3
    fast: bool = False


@pytest.mark.parametrize("case", [case for base in BASES for case in cases(base) if recordable(case.values[0].kind)])
def test_every_kind_round_trips(case: Case) -> None:
    data = json.loads(json.dumps(to_dict(case.kind)))
    base = next(base for base in BASES if isinstance(case.kind, base))
    assert data["is"] == type(case.kind).__name__
    assert from_dict(base, data) == case.kind


def test_nested_records_round_trip() -> None:
    from feller.paths import Affine, Mixture, ProductPath

    settings = Settings(
        Rescaled(0.9, Shifted(2.0, LogitNormal())), {"a": ProductPath({"b": Mixture()}), "c": Affine()}, (0.0, 1.0)
    )
    assert from_dict(Settings, json.loads(json.dumps(to_dict(settings)))) == settings


def test_defaults_may_be_left_out() -> None:
    assert from_dict(Settings, {"law": {"is": "Uniform"}}).steps == 3
    assert from_dict(Schedule, {"is": "Polynomial"}) == Polynomial()


@dataclass(frozen=True)
class EitherRecord:
    """A field of a union of records, distinguished by their fields."""

    one: Settings | Case | None = None


WRONG: dict[type, list[Any]] = {
    Schedule: [
        *({"is": "Polynomail"}, {"is": "Midpoint"}, {"is": "Schedule"}, {"n": 3.0}, [1], None),
        *({"is": "Polynomial", **more} for more in ({"m": 3.0}, {"n": "3"}, {"n": None}, {"n": 0.5})),
    ],
    Solver: [{"is": "GaussianSolver"}, {"is": "_AdaptiveStepper"}, {"is": "DormandPrince", "per_example": "no"}],
    Space: [
        *({"is": "Tokens", **more} for more in ({}, {"vocab_size": True}, {"vocab_size": 2.5})),
        *({"is": "Tokens", "vocab_size": 3, "shape": "12"}, {"is": "Product", "leaf_spaces": 3}),
    ],
    Coupling: [{"is": "ClassConditional", "condition": 5}],
    Path: [{"is": "Affine", "schedule": {"is": "Liner"}}, {"is": "Affine", "schedule": 3}],
    Settings: [{"law": {"is": "Uniform"}, "more": 1}, {}, 7],
    EitherRecord: [{"one": one} for one in ({"steps": -1}, {"nothing": 1}, 7, [1])],
}


@pytest.mark.parametrize(("base", "data"), [(base, data) for base, those in WRONG.items() for data in those])
def test_a_wrong_record_is_an_input_error(base: type, data: Any) -> None:
    with refuses(InputError):
        from_dict(base, data)


def test_records_execute_no_code() -> None:
    for name in (
        "os.system",
        "eval",
        "feller.paths.schedules.Linear",
        "subprocess.Popen",
        "__import__",
        "object",
        "Thread",
    ):
        with refuses(InputError, argument="Schedule"):
            from_dict(Schedule, {"is": name, "target": "x"})
    assert threading.active_count() < 50


def double(t: Any) -> Any:
    return 2 * t


def test_functions_are_recorded_by_name_and_looked_up_among_loaded_code(monkeypatch) -> None:
    data = json.loads(json.dumps(to_dict(CustomSchedule(double, double))))
    assert data == {"is": "CustomSchedule", "alpha": "double", "sigma": "double"}
    with refuses(InputError):
        from_dict(Schedule, data)
    monkeypatch.setitem(USER_FUNCTIONS, "double", double)
    assert from_dict(Schedule, data) == CustomSchedule(double, double)
    with refuses(InputError):
        to_dict(CustomSchedule(lambda t: t, lambda t: 1 - t))


def test_integers_are_accepted_for_float_fields() -> None:
    back = from_dict(Schedule, {"is": "Polynomial", "n": 3})
    assert isinstance(back.n, float)


def test_records_name_the_class() -> None:
    assert to_dict(Linear()) == {"is": "Linear"}
    assert to_dict(Tokens(5))["source"] == {"is": "UniformSource"}
    assert to_dict(DormandPrince())["valid"] is None


def test_json_files_round_trip_and_damaged_ones_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.json"
    with refuses(InputError, found="none"):
        read_json(path)
    write_json(path, {"a": [1, 2.5, None]})
    assert read_json(path) == {"a": [1, 2.5, None]}
    for content in (path.read_bytes()[:-4], b"\xff\xfe\x00"):
        path.write_bytes(content)
        with refuses(InputError, file=str(path)):
            read_json(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(TypeError):
        replace_file(path, 5)  # type: ignore[arg-type]
    assert read_json(path) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_fields_of_a_concrete_class_round_trip() -> None:
    from feller.data.images.labelled_images import LabelledImages
    from feller.data.images.modality import Images
    from feller.data.modality import Modality

    modality = LabelledImages(Images(8, 8, 1, 16, ("a", "b")))
    assert from_dict(Modality, to_dict(modality)) == modality
    with refuses(InputError):
        from_dict(Modality, {"is": "LabelledImages", "images": {"is": "Points"}})


def test_a_missing_record_names_its_remedy_where_a_run_is_read(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, found="none", remedy=None):
        read_json(tmp_path / "none.json")
    for read in (lambda: Run(tmp_path).read_record(tmp_path / "recipe.json"), lambda: open_shards(tmp_path)):
        with refuses(InputError, found="none") as caught:
            read()
        assert caught.value.remedy


def test_undecodable_file_names_round_trip(tmp_path: pathlib.Path) -> None:
    write_json(tmp_path / "a.json", {"data": "w\udcffeird.csv"})
    assert read_json(tmp_path / "a.json") == {"data": "w\udcffeird.csv"}
    replace_file(tmp_path / "b.txt", "w\udcffeird")
    assert (tmp_path / "b.txt").read_bytes() == b"w\xffeird"
    write_json(tmp_path / "a.json", {"data": "\ud800"})
    with refuses(InputError):
        read_json(tmp_path / "a.json")
