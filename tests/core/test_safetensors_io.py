"""Tensor files."""

import os
import pathlib
import sys

import pytest
import torch

from feller.core.errors import InputError
from feller.core.safetensors_io import load_tensors, save_tensors
from tests.errors import refuses


def test_round_trip(tmp_path: pathlib.Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": base, "view": base.T, "half": base.bfloat16(), "ids": torch.tensor([1, -2]), "none": torch.empty(0)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"step": "3"})
    back, note = load_tensors(tmp_path / "x.safetensors")
    assert note == {"step": "3"}
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_saving_replaces_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.zeros(1000)})
    save_tensors(path, {"a": torch.ones(2, requires_grad=True)})
    assert load_tensors(path)[0]["a"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100, None])
def test_damaged_files_are_refused(tmp_path: pathlib.Path, content: bytes | None) -> None:
    """The last one is truncated."""
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with refuses(InputError, file=str(path)):
        load_tensors(path)


def test_missing_files_are_refused(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, found="none"):
        load_tensors(tmp_path / "x.safetensors")


def test_files_are_deterministic(tmp_path: pathlib.Path) -> None:
    """Of eight entries in any order, two files are the same by chance once in 40,320 times."""
    note = {name: f"{name} is ü" for name in "abcdefgh"}
    for path in (tmp_path / "x", tmp_path / "y"):
        save_tensors(path, {"a": torch.ones(3), "b": torch.zeros(2, dtype=torch.int64)}, note)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    tensors, back = load_tensors(tmp_path / "x")
    assert back == note
    assert tensors["a"].tolist() == [1, 1, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow only UTF-8")
def test_a_folder_whose_name_is_not_utf8(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / os.fsdecode(b"r\xfe")
    folder.mkdir()
    save_tensors(folder / "x.safetensors", {"a": torch.arange(3)}, {"step": "3", "b": "c"})
    back, note = load_tensors(folder / "x.safetensors")
    assert back["a"].tolist() == [0, 1, 2]
    assert note == {"step": "3", "b": "c"}
    (folder / "x.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0[]   ")
    with refuses(InputError, file=str(folder / "x.safetensors")):
        load_tensors(folder / "x.safetensors")


def test_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: pathlib.Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    save_tensors(tmp_path / "x.safetensors", {"a": torch.arange(3)})
    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with refuses(PermissionError, filename=str(tmp_path / "x.safetensors")):
        load_tensors(tmp_path / "x.safetensors")
