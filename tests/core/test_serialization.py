"""Frozen dataclasses to JSON and back; what a stranger's record can and cannot do."""

import json
import pathlib
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from feller.core.errors import InputError, did_you_mean
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
    """A recipe as recipes are: plain fields, kinds inside kinds, containers of both."""

    law: TimeDistribution
    paths: dict[str, Path] = field(default_factory=dict)
    grid: tuple[float, ...] = ()
    name: str | None = None
    steps: int = 3
    fast: bool = False


@pytest.mark.parametrize("case", [case for base in BASES for case in cases(base) if recordable(case.values[0].kind)])
def test_every_kind_comes_back(case: Case) -> None:
    data = json.loads(json.dumps(to_dict(case.kind)))
    base = next(base for base in BASES if isinstance(case.kind, base))
    assert data["is"] == type(case.kind).__name__
    assert from_dict(base, data) == case.kind


def test_a_recipe_comes_back() -> None:
    from feller.paths import Affine, Mixture, ProductPath

    settings = Settings(
        Rescaled(0.9, Shifted(2.0, LogitNormal())), {"a": ProductPath({"b": Mixture()}), "c": Affine()}, (0.0, 1.0)
    )
    assert from_dict(Settings, json.loads(json.dumps(to_dict(settings)))) == settings


def test_defaults_may_be_left_out() -> None:
    assert from_dict(Settings, {"law": {"is": "Uniform"}}).steps == 3
    assert from_dict(Schedule, {"is": "Polynomial"}) == Polynomial()


@pytest.mark.parametrize(
    ("base", "data", "message"),
    [
        (Schedule, {"is": "Polynomail"}, "Did you mean 'Polynomial'"),
        (Schedule, {"is": "Midpoint"}, "Schedule: expected one of .*; found 'Midpoint'"),
        (Schedule, {"is": "Schedule"}, "Schedule: expected"),
        (Schedule, {"n": 3.0}, "Schedule: expected"),
        (Schedule, [1], "Schedule: expected"),
        (Schedule, None, "Schedule: expected"),
        (Solver, {"is": "GaussianSolver"}, "Solver: expected"),
        (Solver, {"is": "_AdaptiveStepper"}, "Solver: expected"),
        (Schedule, {"is": "Polynomial", "m": 3.0}, r"extra fields found \(m\)"),
        (Space, {"is": "Tokens"}, "^vocab_size: required field missing$"),
        (Space, {"is": "Tokens", "vocab_size": True}, "expected int; found True"),
        (Space, {"is": "Tokens", "vocab_size": 2.5}, r"expected int; found 2\.5"),
        (Space, {"is": "Tokens", "vocab_size": 3, "shape": "12"}, "expected int; found '1'"),
        (Space, {"is": "Product", "leaf_spaces": 3}, "expected a mapping"),
        (Schedule, {"is": "Polynomial", "n": "3"}, "expected float; found '3'"),
        (Schedule, {"is": "Polynomial", "n": None}, "expected float; found None"),
        (Schedule, {"is": "Polynomial", "n": 0.5}, "at least 1"),
        (Solver, {"is": "DormandPrince", "per_example": "no"}, "expected bool; found 'no'"),
        (Coupling, {"is": "ClassConditional", "condition": 5}, "expected str; found 5"),
        (Path, {"is": "Affine", "schedule": {"is": "Liner"}}, "^schedule: Schedule: .* Did you mean 'Linear'"),
        (Path, {"is": "Affine", "schedule": 3}, "Schedule: expected"),
        (Settings, {"law": {"is": "Uniform"}, "more": 1}, "extra fields"),
        (Settings, {}, "required field missing"),
        (Settings, 7, "Settings"),
    ],
)
def test_a_wrong_record_is_an_input_error(base: type, data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(base, data)


@dataclass(frozen=True)
class EitherRecord:
    """A field of one record or another, which are told apart by their fields."""

    one: Settings | Case | None = None


@pytest.mark.parametrize("value", [{"steps": -1}, {"nothing": 1}, 7, [1]])
def test_what_is_none_of_several_records_names_them(value: Any) -> None:
    with pytest.raises(InputError, match="Settings or Case"):
        from_dict(EitherRecord, {"one": value})


def test_nothing_of_the_writer_is_executed() -> None:
    """Dotted names, builtins and classes outside the asked family are only names that do not exist."""
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


def test_functions_are_recorded_by_name_and_found_only_where_the_caller_put_them(monkeypatch) -> None:
    data = json.loads(json.dumps(to_dict(CustomSchedule(double, double))))
    assert data == {"is": "CustomSchedule", "alpha": "double", "sigma": "double"}
    with pytest.raises(InputError, match="--code"):
        from_dict(Schedule, data)
    monkeypatch.setitem(USER_FUNCTIONS, "double", double)
    assert from_dict(Schedule, data) == CustomSchedule(double, double)
    with pytest.raises(InputError, match="top level"):
        to_dict(CustomSchedule(lambda t: t, lambda t: 1 - t))


def test_whole_numbers_serve_as_floats() -> None:
    back = from_dict(Schedule, {"is": "Polynomial", "n": 3})
    assert isinstance(back.n, float)


def test_kinds_are_told_apart_by_their_class_name_alone() -> None:
    assert to_dict(Linear()) == {"is": "Linear"}
    assert to_dict(Tokens(5))["source"] == {"is": "UniformSource"}
    assert to_dict(DormandPrince())["valid"] is None


def test_json_files(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.json"
    with refuses(InputError, found="none"):
        read_json(path)
    write_json(path, {"a": [1, 2.5, None]})
    assert read_json(path) == {"a": [1, 2.5, None]}
    path.write_text(path.read_text()[:-4])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_json(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not valid JSON"):
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


def test_a_field_of_one_kind_comes_back() -> None:
    """A field may name a kind itself, instead of what it is a kind of."""
    from feller.data.images.labelled_images import LabelledImages
    from feller.data.images.modality import Images
    from feller.data.modality import Modality

    modality = LabelledImages(Images(8, 8, 1, 16, ("a", "b")))
    assert from_dict(Modality, to_dict(modality)) == modality
    with pytest.raises(InputError, match=r"Images: expected one of .*; found 'Points'"):
        from_dict(Modality, {"is": "LabelledImages", "images": {"is": "Points"}})


@pytest.mark.parametrize(
    ("name", "names", "told"),
    [
        ("jupm", ["flow", "jump"], "did you mean 'jump'? available: flow, jump"),
        ("ti", ["Te", "Ti"], "did you mean 'Ti'? available: Te, Ti"),
        (
            "adjoin",
            ["continuous-adjoint", "adjoint-matching"],
            "did you mean 'adjoint-matching'? available: adjoint-matching, continuous-adjoint",
        ),
        ("Xe", ["Te", "Ti"], "available: Te, Ti"),
        ("100", ["8", "9", "10", "11", "27"], "available: 8 to 11, 27"),
        ("x", ["3", "1", "2", "7", "8"], "available: 1 to 3, 7, 8"),
        ("colour", ["native-country", "age"], "available: age, native-country"),
    ],
)
def test_wrong_names_are_answered_by_right_ones(name: str, names: list[str], told: str) -> None:
    assert did_you_mean(name, names) == told


def test_only_who_reads_a_file_of_a_run_speaks_of_runs(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, found="none"):
        read_json(tmp_path / "none.json")
    with pytest.raises(InputError, match=r"found none\. If the run folder is incomplete"):
        Run(tmp_path).read_record(tmp_path / "recipe.json")
    with pytest.raises(InputError, match=r"found none\. .*`feller sample --shard-size`"):
        open_shards(tmp_path)


def test_names_of_files_that_are_no_letters_stay(tmp_path: pathlib.Path) -> None:
    """Python holds their bytes as halves of letters; other halves stand in no file."""
    write_json(tmp_path / "a.json", {"data": "w\udcffeird.csv"})
    assert read_json(tmp_path / "a.json") == {"data": "w\udcffeird.csv"}
    replace_file(tmp_path / "b.txt", "w\udcffeird")
    assert (tmp_path / "b.txt").read_bytes() == b"w\xffeird"
    write_json(tmp_path / "a.json", {"data": "\ud800"})
    with pytest.raises(InputError, match="surrogates not allowed"):
        read_json(tmp_path / "a.json")
