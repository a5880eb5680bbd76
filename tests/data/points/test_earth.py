"""Locations on the earth: directions, recognised columns, decimal commas and refusals."""

import math
import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawPoints
from feller.data.points.earth import Earth, earth_dataset
from feller.data.points.euclidean_points import Points
from feller.data.points.torsions import Torsions
from tests.errors import refuses

F64 = torch.float64


def table(folder: pathlib.Path, text: str) -> str:
    path = folder / "t.csv"
    path.write_text(text)
    return str(path)


def uniform_locations(n: int) -> np.ndarray:
    """Return n locations uniform on the sphere, in degrees."""
    u = np.random.default_rng(0).uniform(size=(n, 2))
    return np.stack([np.rad2deg(np.arcsin(2 * u[:, 0] - 1)), 360 * u[:, 1] - 180], 1)


def test_directions_in_closed_form() -> None:
    values = torch.tensor([[0.0, 0.0], [0.0, 90.0], [90.0, 12.0], [-30.0, 180.0], [60.0, -90.0]], dtype=F64)
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-math.cos(math.pi / 6), 0, -0.5], [0, -0.5, math.sin(math.pi / 3)]]
    for modality, given in ((Earth(("a", "b")), values), (Earth(("b", "a"), latitude=1), values.flip(1))):
        state = modality.encode(given)
        torch.testing.assert_close(state, torch.tensor(expected, dtype=torch.float32), atol=1e-7, rtol=0)
        decoded = modality.decode(state)
        torch.testing.assert_close(decoded[[0, 1, 4]], given[[0, 1, 4]], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("west", "low", "high"), [(-180.0, -180, 180), (0.0, 0, 360)])
def test_encode_decode_round_trip(west: float, low: float, high: float) -> None:
    modality = Earth(("latitude", "longitude"), west=west)
    values = torch.from_numpy(uniform_locations(500))
    values[:, 1] += 360 * (values[:, 1] < west)
    decoded = modality.decode(modality.encode(values))
    assert (low <= decoded[:, 1]).all()
    assert (decoded[:, 1] <= high).all()
    difference = (decoded - values) * torch.stack([torch.ones(500), values[:, 0].deg2rad().cos()], 1)
    assert difference.abs().max() < 1e-5  # degrees: a metre


@pytest.mark.parametrize(
    ("header", "latitude"),
    [("latitude,longitude", 0), ("LON,LAT", 1), ("Lng,Latitude", 1), ("lat,long", 0), ("lat_deg,lon_deg", 0)],
)
def test_columns_are_recognised_by_name(tmp_path: pathlib.Path, header: str, latitude: int) -> None:
    data = read(table(tmp_path, f"{header}\n10,20\n30,40\n50,60\n"))
    assert data.modality == Earth(tuple(header.split(",")), latitude)
    first = data.modality.encode(data.values)[0]
    assert float(first[2]) == pytest.approx(math.sin(math.radians(20 if latitude else 10)))


def test_tables_with_more_columns_are_points(tmp_path: pathlib.Path) -> None:
    data = read(table(tmp_path, "latitude,longitude,depth\n10,20,1\n30,40,2\n"))
    assert isinstance(data.modality, Points)
    assert "latitude and longitude" in data.notes[0]
    assert isinstance(read(table(tmp_path, "lat,x\n10,20\n30,40\n")).modality, Points)


def test_label_column_is_a_condition(tmp_path: pathlib.Path) -> None:
    data = read(table(tmp_path, "lat,lon,label\n10,20,a\n30,40,b\n"))
    assert isinstance(data.modality, Earth)
    assert data.given["label"].tolist() == [0, 1]


def test_space_option(tmp_path: pathlib.Path) -> None:
    assert read(table(tmp_path, "1,100\n2,-100\n"), space="sphere").modality == Earth(("latitude", "longitude"))
    assert read(table(tmp_path, "a,b\n1,100\n"), space="sphere").modality == Earth(("a", "b"))
    assert read(table(tmp_path, "a,lat\n100,1\n"), space="sphere").modality == Earth(("a", "lat"), 1)
    assert isinstance(read(table(tmp_path, "lat,lon\n1,100\n2,3\n"), space="euclidean").modality, Points)
    assert read(table(tmp_path, "lat,lon\n1,350\n")).modality == Earth(("lat", "lon"), west=0.0)


@pytest.mark.parametrize(
    ("text", "row", "found"),
    [
        ("lat,lon\n1,2\n95.2,3\n", 3, "95.2"),
        ("lat,lon\n\n\n1,2\n95.2,100\n", 5, "95.2"),
        ("lat,lon\n1,-181\n2,3\n", 2, "-181"),
        ("lat,lon\n1,361\n2,-200\n", 2, "361"),
    ],
)
def test_angles_out_of_range_are_refused(tmp_path: pathlib.Path, text: str, row: int, found: str) -> None:
    path = table(tmp_path, text)
    with refuses(InputError, file=path, row=row) as caught:
        read(path)
    assert str(caught.value.found).startswith(f"{found} ")


def test_radians_are_refused() -> None:
    radians = np.deg2rad(uniform_locations(40))
    with refuses(InputError, expected="latitude and longitude in degrees"):
        earth_dataset(RawPoints(radians, columns=("lat", "lon")))
    assert len(earth_dataset(RawPoints(radians, columns=("lat_deg", "lon_deg")))) == 40
    assert len(earth_dataset(RawPoints(radians[:10], columns=("lat", "lon")))) == 10  # few may lie so by chance
    small = 0.1 * radians  # degrees around the Gulf of Guinea
    assert len(earth_dataset(RawPoints(small, columns=("lat", "lon")))) == 40


def test_figure_shows_four_sides_of_the_globe() -> None:
    """A location in the middle of a side appears in the middle of its quarter of the figure."""
    modality = Earth(("lat", "lon"))
    empty = np.asarray(modality.show(torch.zeros(0, 2, dtype=F64), {})).astype(int)
    for longitude, row, column in ((0.0, 0, 0), (90.0, 0, 1), (180.0, 1, 0), (-90.0, 1, 1)):
        values = torch.tensor([[20.0, longitude]], dtype=F64)
        changed = abs(np.asarray(modality.show(values, {})).astype(int) - empty).sum(2) > 100
        quarter = np.split(np.split(changed, 2)[row], 2, axis=1)[column]
        pixels = np.argwhere(quarter)
        place = pixels[abs(pixels / quarter.shape - 0.5).max(1) < 0.3].mean(0) / quarter.shape
        assert abs(place - [0.53, 0.5]).max() < 0.02  # the title takes some of the height


DECIMAL_COMMAS = "lat;lon\n-30,2;-178,47\n12,125;20\n60,5;3,25\n"
QUOTED_COMMAS = "".join('"{}","{}"\n'.format(*line.split(";")) for line in DECIMAL_COMMAS.splitlines())
LOCATIONS = torch.tensor([[-30.2, -178.47], [12.125, 20.0], [60.5, 3.25]], dtype=F64)


@pytest.mark.parametrize("text", [f"\ufeff{DECIMAL_COMMAS}", DECIMAL_COMMAS.replace(";", "\t"), QUOTED_COMMAS])
@pytest.mark.parametrize("space", [None, "sphere"])
def test_decimal_commas_are_read(tmp_path: pathlib.Path, text: str, space: str | None) -> None:
    data = read(table(tmp_path, text), space=space)
    assert data.modality == Earth(("lat", "lon"))
    assert torch.equal(data.values, LOCATIONS)
    reordered = read(table(tmp_path, text), like=Earth(("lon", "lat"), latitude=1))
    assert torch.equal(reordered.values, LOCATIONS.flip(1))


def test_three_decimals_are_not_thousands(tmp_path: pathlib.Path) -> None:
    data = read(table(tmp_path, "lat;lon;label\n48,137;11,575;a\n52,520;13,405;b\n"))
    assert torch.equal(data.values, torch.tensor([[48.137, 11.575], [52.52, 13.405]], dtype=F64))
    assert data.given["label"].tolist() == [0, 1]


def test_invalid_cells_among_decimal_commas_are_refused(tmp_path: pathlib.Path) -> None:
    path = table(tmp_path, f"{DECIMAL_COMMAS}north;2,5\n")
    with refuses(InputError, found="'north'"):
        read(path)
    with refuses(InputError, file=path) as caught:
        read(table(tmp_path, f"{DECIMAL_COMMAS};2,5\n"))
    assert "row 5, column 1" in str(caught.value)


def test_decimal_commas_of_other_spaces(tmp_path: pathlib.Path) -> None:
    data = read(table(tmp_path, "x;y;z\n0,6;0,8;0,0\n0,0;-1,0;0,0\n"), space="sphere")
    assert torch.equal(data.values[0], torch.tensor([0.6, 0.8, 0.0], dtype=F64))
    angles = read(table(tmp_path, "phi;psi;pdb\n-60,5;-45,25;abc\n-120,5;130,0;xyz\n"))
    assert isinstance(angles.modality, Torsions)
    assert angles.values[0].tolist() == [-60.5, -45.25]


def test_columns_are_matched_by_meaning(tmp_path: pathlib.Path) -> None:
    modality = Earth(("Longitude", "Latitude"), latitude=1)
    for header in ("LATITUDE,LONGITUDE", "lat,lng"):
        values, _ = modality.values_from_raw(RawPoints(np.array([[1.0, 2.0]]), columns=tuple(header.split(","))))
        assert values.tolist() == [[2.0, 1.0]]
    data = read(table(tmp_path, "lat,LON\n95,2\n1,2\n"), like=Points(("lat", "LON"), (0.0, 0.0), (1.0, 1.0)))
    assert data.values[0].tolist() == [95.0, 2.0]
    with refuses(InputError, found="lat, depth"):
        modality.values_from_raw(RawPoints(np.array([[1.0, 2.0]]), columns=("lat", "depth")))


def test_locations_among_other_columns_are_noted(tmp_path: pathlib.Path) -> None:
    rows = "".join(f"2020-01-0{i},{i},{2 * i},off {i}\n" for i in range(1, 9))
    path = table(tmp_path, f"time,Lat,Lon,place\n{rows}")
    assert "Lat and Lon" in read(path).notes[-1]
    with refuses(UsageError) as caught:
        read(path, space="sphere")
    assert "Lat and Lon" in str(caught.value.remedy)
