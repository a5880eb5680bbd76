"""Keyed fingerprints of private data."""

import hashlib
import hmac

import pytest

from feller.app.workflows.private.private_split import key_path, keyed_fingerprint, matches_keyed
from feller.core.errors import InputError
from tests.errors import refuses


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def test_fingerprint_is_a_salted_hmac(home):
    made = keyed_fingerprint("abc", "00ff")
    key = (home / "feller" / "key").read_bytes()
    assert made == "00ff-" + hmac.new(key, b"00ff/abc", hashlib.sha256).hexdigest()[:16]
    assert matches_keyed("abc", made)
    assert not matches_keyed("abd", made)


def test_fingerprints_of_two_runs_differ():
    assert keyed_fingerprint("abc", "1").partition("-")[2] != keyed_fingerprint("abc", "2").partition("-")[2]


def test_another_key_matches_nothing(monkeypatch, home):
    made = keyed_fingerprint("abc", "1")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "elsewhere"))
    assert not matches_keyed("abc", made)


def test_key_is_private_and_made_once(home):
    keyed_fingerprint("abc", "1")
    before = key_path().read_bytes()
    assert len(before) == 32
    assert key_path().stat().st_mode & 0o077 == 0
    keyed_fingerprint("other", "1")
    assert key_path().read_bytes() == before
    assert [path.name for path in (home / "feller").iterdir()] == ["key"]


@pytest.mark.parametrize("held", [b"", b"short"])
def test_damaged_key_is_refused(held):
    key_path().parent.mkdir(parents=True)
    key_path().write_bytes(held)
    with refuses(InputError, file=str(key_path()), found=f"{len(held)} bytes"):
        keyed_fingerprint("abc", "1")


def test_folder_that_cannot_be_written(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "file"))
    with refuses(InputError, remedy="Set XDG_DATA_HOME to a writable folder"):
        keyed_fingerprint("abc", "1")
