"""Names of fields without their group, devices, and booleans in any case."""

import os
from dataclasses import dataclass, field

import pytest

from feller.app.commands.arguments import change_fields, check_names, expand_field_aliases, parse, take_device
from feller.app.config import FitConfig
from feller.core.errors import UsageError


@dataclass(frozen=True)
class Inner:
    compile: bool = False
    fsdp: bool = True
    lr: float = 1e-3
    levels: tuple[bool, ...] = (False,)


@dataclass(frozen=True)
class Outer:
    train: Inner = field(default_factory=Inner)


def test_names_of_recipe_fields_without_their_group():
    expanded = ["--train.lr", "1e-4", "--train.batch-size=8", "x=--lr"]
    assert expand_field_aliases(["--lr", "1e-4", "--batch-size=8", "x=--lr"]) == expanded


@pytest.mark.parametrize(("word", "meant"), [("--epochs", "--steps"), ("--minuts", "--minutes")])
def test_unknown_names_are_corrected(word, meant):
    with pytest.raises(UsageError) as caught:
        check_names([word, "3"], FitConfig)
    assert meant in caught.value.remedy


@pytest.mark.parametrize("words", [["--train.compile", "TRUE"], ["--train.compile=true"], ["--train.compile"]])
def test_booleans_of_fields_in_any_case(words):
    assert change_fields(Outer(), words, "x") == Outer(Inner(compile=True))


def test_booleans_of_fields_may_be_false():
    words = ["--train.fsdp", "false", "--train.levels", "true", "False", "--train.compile=FALSE"]
    assert change_fields(Outer(), words, "x") == Outer(Inner(fsdp=False, levels=(True, False)))


@pytest.mark.parametrize(
    ("words", "resume"), [(["--resume", "True"], True), (["--resume=false"], False), (["--resume", "FALSE"], False)]
)
def test_booleans_of_commands(words, resume):
    command, rest = parse(FitConfig, "fit", words, allow_nested=True)
    assert (command.output.resume, rest) == (resume, [])


def test_device_sets_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")
    assert take_device(["a", "--device", "cpu", "b"]) == ["a", "b"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert take_device(["--device=cpu"]) == []
    assert take_device(["x"]) == ["x"]


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", ""])
def test_unknown_devices_are_refused(device):
    with pytest.raises(UsageError):
        take_device(["--device", device])
