"""A name at which nothing is: what may have been meant."""

import pathlib

import pytest

from feller.errors import InputError
from feller.places import check_data, check_there


def test_the_nearest_name_beside_it_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("photos").mkdir()
    pathlib.Path("people.csv").write_text("")
    with pytest.raises(InputError, match=r"at photo, found none; did you mean photos/\?"):
        check_data("photo/")
    with pytest.raises(InputError, match=r"expected a file at peple\.csv, found none; did you mean people\.csv\?"):
        check_there(pathlib.Path("peple.csv"), "a file")
    for name in ("nowhere", "deep/nowhere"):
        with pytest.raises(InputError, match=f"at {name}, found none$"):
            check_data(name)
