"""Populations as they are read for a bridge."""

import numpy as np
import pytest
import torch

from feller.app.workflows.bridges.populations import read_populations
from feller.core.errors import InputError, UsageError
from tests.errors import refuses


def table(path, head, values):
    np.savetxt(path, values, delimiter=",", header=head, comments="")
    return str(path)


@pytest.fixture
def two(tmp_path):
    rng = np.random.default_rng(0)
    a = table(tmp_path / "a.csv", "east,north", rng.normal(size=(6, 2)))
    b = table(tmp_path / "b.csv", "north,east", rng.normal(size=(4, 2)))
    return a, b


def test_columns_are_matched_by_name_and_nothing_is_scaled(two):
    crowd = read_populations(two)
    raw = [np.loadtxt(name, delimiter=",", skiprows=1) for name in two]
    assert crowd.modality.columns == ("east", "north")
    torch.testing.assert_close(crowd.states[0].double(), torch.from_numpy(raw[0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(crowd.states[1].double(), torch.from_numpy(raw[1][:, ::-1].copy()), atol=1e-6, rtol=0)


def test_places_far_from_zero_are_moved(tmp_path):
    rng = np.random.default_rng(0)
    values = 5e6 + rng.normal(size=(50, 2))
    a, b = (table(tmp_path / f"{name}.csv", "x,y", part) for name, part in (("a", values[:25]), ("b", values[25:])))
    crowd = read_populations([a, b])
    back = crowd.modality.decode(crowd.states[0])
    assert (back - torch.from_numpy(np.loadtxt(a, delimiter=",", skiprows=1))).abs().max() < 1e-6


def test_labels_and_coordinates_are_plain_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("latitude,longitude\n1,2\n3,4\n5,6\n")
    (tmp_path / "b.csv").write_text("latitude,longitude,label\n1,2,x\n3,4,y\n5,7,x\n")
    crowd = read_populations([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    assert crowd.modality.columns == ("latitude", "longitude")
    (tmp_path / "c.csv").write_text("x,y,label\n1,2,x\n3,4,y\n5,7,x\n")
    (tmp_path / "d.csv").write_text("x,y,label\n1,2,z\n3,4,y\n5,9,x\n")
    crowd = read_populations([str(tmp_path / "c.csv"), str(tmp_path / "d.csv")])
    assert crowd.modality.classes == ()
    assert any("labels" in note for note in crowd.notes)


def test_what_cannot_be_bridged(two, tmp_path):
    a, _ = two
    for columns in ("east,height", "east,north,up"):
        other = table(tmp_path / "c.csv", columns, np.ones((3, columns.count(",") + 1)))
        with refuses(InputError, file=other, found=columns.replace(",", ", ")) as caught:
            read_populations([a, other])
        assert "east, north" in str(caught.value.expected)
    one = table(tmp_path / "e.csv", "east,north", np.ones((1, 2)))
    with refuses(InputError, place=one):
        read_populations([a, one])
    same = np.loadtxt(a, delimiter=",", skiprows=1)[::-1]
    twin = table(tmp_path / "f.csv", "east,north", same)
    with refuses(InputError) as caught:
        read_populations([a, twin])
    assert a in str(caught.value)
    assert twin in str(caught.value)
    with refuses(UsageError, found="1"):
        read_populations([a])
    with refuses(UsageError) as caught:
        read_populations(["example:molecules", a])
    assert "example:molecules" in str(caught.value)
    nowhere = str(tmp_path / "nothing.csv")
    with refuses(InputError, file=nowhere, found="none"):
        read_populations([a, nowhere])


def test_decimal_commas_are_shown_with_a_point(two, tmp_path):
    comma = tmp_path / "g.csv"
    comma.write_text("east;north\n1,5;2,5\n3,5;4,5\n")
    for names, kind in (((two[0], comma), InputError), ((comma, two[0]), UsageError)):
        with refuses(kind) as caught:
            read_populations([str(name) for name in names])
        assert str(comma) in str(caught.value)
        assert "1.5" in str(caught.value)


def test_pictures(tmp_path):
    crowd = read_populations(["example:digits", "example:digits/test"])
    assert crowd.states[0].shape[1:] == (1, 8, 8)
    assert crowd.modality.classes == ()


def test_columns_of_words_are_named(tmp_path):
    rows = "\n".join(f"AAC-{k},{k / 7},{k % 3}" for k in range(30))
    (tmp_path / "cells.csv").write_text(f"cell,x,y\n{rows}\n")
    with refuses(UsageError) as caught:
        read_populations([str(tmp_path / "cells.csv"), "example:moons"])
    assert "cells.csv" in str(caught.value)
    assert ": cell " in str(caught.value)
