"""Full disks, read-only file systems and locks."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from feller.app.cli import main
from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.workflows.fit import fit
from feller.core.errors import InputError
from feller.core.safetensors_io import load_tensors
from feller.core.serialization import replace_file
from feller.data.images.modality import Images
from tests.errors import refuses
from tests.safety.specimen_runs import copied

pytestmark = pytest.mark.portable

HOLD = """import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(100)
"""


def disk_full(*words: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_checkpoint_on_a_full_disk(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(tmp_path / "r")
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.suffix == ".safetensors"}
    words = ["fit", "--resume", "--out", str(run.path), "--steps", "6"]
    with monkeypatch.context() as patch:
        patch.setattr("feller.core.serialization.os.fsync", disk_full)
        assert main(words) == 1
    assert f"{run.path}/" in capsys.readouterr().err.strip().splitlines()[-1]
    assert before == {name: (run.path / name).read_bytes() for name in before}
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]
    assert main(words) == 0
    straight = copied(tmp_path / "s")
    assert main([*words[:3], str(straight.path), *words[4:]]) == 0
    a, b = (load_tensors(each.weights)[0] for each in (run, straight))
    assert all(torch.equal(a[name], b[name]) for name in a)


def read_only(*words: object, **more: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(words[0]))


def test_fit_on_a_read_only_file_system(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("feller.core.run_folder.pathlib.Path.mkdir", read_only)
    out = str(tmp_path / "r")
    assert main(["fit", "example:moons", "--steps", "1", "--out", out]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"feller: {out}: ")


def test_resume_without_a_lock(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(tmp_path / "r")
    with monkeypatch.context() as patch:
        patch.setattr("feller.core.run_folder.os.open", read_only)
        assert main(["fit", "--resume", "--out", str(run.path), "--steps", "6"]) == 1
    assert str(run.path / "lock") in capsys.readouterr().err.strip().splitlines()[-1]
    (run.path / "lock").unlink(missing_ok=True)
    (run.path / "lock").symlink_to(tmp_path / "elsewhere")
    assert main(["fit", "--resume", "--out", str(run.path), "--steps", "6"]) == 1
    assert str(run.path / "lock") in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["state.json", "metrics.jsonl"])
def test_folder_in_place_of_a_file(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run = copied(tmp_path / "r")
    (run.path / name).unlink()
    (run.path / name).mkdir()
    assert main(["fit", "--resume", "--out", str(run.path), "--steps", "6"]) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(run.path / name) in told
    assert f".{name}." not in told
    with refuses(InputError, file=str(run.path / name)):
        replace_file(run.path / name, "x")


def test_sample_on_a_full_disk(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = copied(tmp_path / "r"), tmp_path / "a.csv"
    words = ["sample", str(run.path), "-n", "3", "--out", str(out)]
    assert main(words) == 0
    before = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("feller.core.serialization.os.fsync", disk_full)
        assert main([*words, "--overwrite", "--seed", "1"]) == 1
    assert str(out) in capsys.readouterr().err
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_file_size_limit(tmp_path: pathlib.Path) -> None:
    """The system's own limit, in a process of its own."""
    pid = os.fork()
    if pid == 0:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
        try:
            replace_file(tmp_path / "a", b"x" * 5_000)
        except OSError as error:
            os._exit(7 if error.errno == errno.EFBIG else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["evaluate"], ["export", "--to", "torch-export"], ["export", "--to", "huggingface"]])
def test_locked_run_is_neither_evaluated_nor_exported(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    run = copied(tmp_path / "r")
    before = {path.name for path in run.path.iterdir()} | {"lock"}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path / "lock")], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert main([words[0], str(run.path), *words[1:]]) == 1
        other.kill()
    assert str(run.path) in capsys.readouterr().err
    assert {path.name for path in run.path.iterdir()} == before


def test_locks(tmp_path: pathlib.Path) -> None:
    run = copied(tmp_path / "r")
    with run.lock():
        with run.ensure_lock():
            pass
        with refuses(InputError), run.lock():
            pass
    with run.ensure_lock(), refuses(InputError), run.lock():
        pass
    with run.lock():
        pass


def test_concurrent_sample_folders(tmp_path: pathlib.Path) -> None:
    first, second = 12, 8
    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            list(pool.map(lambda n: _write(n, tmp_path / "s"), (first, second, first, second)))
            there = len(list((tmp_path / "s").glob("0*.png")))
            assert there in (first, second)
            assert len(list((tmp_path / "s").iterdir())) == there + 1


def _write(n: int, folder: pathlib.Path) -> None:
    Images(4, 4, 1).write(torch.zeros(n, 1, 4, 4, dtype=torch.uint8), {}, folder)


def test_locked_run_is_not_resumed(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path / "r")
    with run.lock():
        assert main(["fit", "--resume", "--out", str(run.path), "--steps", "6"]) == 1
        assert str(run.path) in capsys.readouterr().err
    (run.path / "lock").write_text("999999999\n")  # of one that is dead: the system holds no lock for it
    assert fit(config_of(FitConfig, resume=True, out=str(run.path)))[0].path == run.path
