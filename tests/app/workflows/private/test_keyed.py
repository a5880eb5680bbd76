"""Fingerprints of private data tell nothing without the key, and nothing about each other."""

import hashlib
import hmac
import pathlib

import pytest

from feller.app.workflows.private.private_split import key_path, keyed_fingerprint, matches_keyed
from feller.core.errors import InputError


@pytest.fixture(autouse=True)
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def test_fingerprint_is_a_keyed_hash_behind_its_salt(home: pathlib.Path) -> None:
    made = keyed_fingerprint("abc", "00ff")
    key = (home / "feller" / "key").read_bytes()
    assert made == "00ff-" + hmac.new(key, b"00ff/abc", hashlib.sha256).hexdigest()[:16]
    assert matches_keyed("abc", made)
    assert not matches_keyed("abd", made)


def test_two_runs_do_not_tell_whether_they_saw_the_same_rows() -> None:
    assert keyed_fingerprint("abc", "1").partition("-")[2] != keyed_fingerprint("abc", "2").partition("-")[2]


def test_nobody_without_the_key_can_check_a_guess(monkeypatch: pytest.MonkeyPatch, home: pathlib.Path) -> None:
    made = keyed_fingerprint("abc", "1")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "elsewhere"))
    assert not matches_keyed("abc", made)


def test_the_key_is_made_once_of_32_bytes_that_nobody_else_may_read(home: pathlib.Path) -> None:
    keyed_fingerprint("abc", "1")
    before = key_path().read_bytes()
    assert len(before) == 32
    assert key_path().stat().st_mode & 0o077 == 0
    keyed_fingerprint("other", "1")
    assert key_path().read_bytes() == before
    assert [path.name for path in (home / "feller").iterdir()] == ["key"]


@pytest.mark.parametrize("held", [b"", b"short"])
def test_a_damaged_key_hides_nothing_and_is_refused(held: bytes) -> None:
    key_path().parent.mkdir(parents=True)
    key_path().write_bytes(held)
    with pytest.raises(InputError, match=f"32 bytes; found {len(held)} bytes"):
        keyed_fingerprint("abc", "1")


def test_a_place_that_cannot_be_written_is_named(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "file"))
    with pytest.raises(InputError, match="Set XDG_DATA_HOME"):
        keyed_fingerprint("abc", "1")
