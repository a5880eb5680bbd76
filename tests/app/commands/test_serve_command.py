"""feller serve: what is refused before anything is read or served."""

import socket

import pytest

from feller.core.errors import InputError
from tests.app.asked import refuse


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--host 0.0.0.0", {}),
        ("--host 0.0.0.0 --token short", {"found": "5 characters"}),
        ("--port 70000", {"argument": "port", "found": "70,000"}),
        ("--port x", {"argument": "port", "found": "'x'"}),
        ("one two", {"kind": InputError, "file": "one", "found": "none"}),
    ],
)
def test_refused_arguments(words, fields, here):
    refuse("serve", *words.split(), **fields)


@pytest.mark.parametrize(
    ("words", "file"), [(("--reward", "0.5 * gone.py:warm >= 1"), "gone.py"), (("--memory", "gone"), "gone")]
)
def test_missing_files(words, file, tmp_path):
    (tmp_path / "model.json").write_text("{}")
    refuse("serve", tmp_path, *words, kind=InputError, file=file, found="none")


@pytest.mark.slow
def test_port_in_use(moons):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in str(refuse("serve", moons, "--port", port, kind=InputError))
