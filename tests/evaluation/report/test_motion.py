"""Pictures and animations of bridges."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from feller.core.errors import UsageError
from feller.data.figures import to_image
from feller.evaluation.report.bridge_animation import (
    FRAMES,
    _blended_colours,
    _draw_background,
    _heights,
    animate_paths,
    filmstrip,
    format_time,
    interpolate_paths,
    plot_paths,
)
from feller.evaluation.report.cost_plot import AHEAD, BACK, RoundSummary, plot_over_time, plot_rounds
from feller.evaluation.report.embedded_picture import MAX_ANIMATION_BYTES, make_animation
from feller.evaluation.report.projection import BridgeScene, principal_directions, project_scene
from tests.errors import refuses

TIMES = np.linspace(0, 1, 15)
RNG = np.random.default_rng(0)


def scene(d: int = 2, **others: object) -> BridgeScene:
    """A few members that go straight from around 0 to around 10 along the first axis."""
    first = np.random.default_rng(1).normal(size=(30, d))
    last = first + 10 * np.eye(d)[0]
    paths = first[:, None] + TIMES[:, None] * (last - first)[:, None]
    columns = [f"c{k}" for k in range(d)]
    return BridgeScene(times=TIMES, paths=paths, populations=[first, last], names=["a", "b"], columns=columns, **others)


def test_animation_moves_points() -> None:
    """What has the colour of a time lies where the walkers are then."""
    drawn = scene()
    made = animate_paths(drawn)
    film = Image.open(io.BytesIO(made.data))
    assert (film.n_frames, film.info["loop"], film.size) == (1 + FRAMES, 0, made.size)
    assert len(made.data) <= MAX_ANIMATION_BYTES
    assert made.still.size == made.size
    figure, axes = _draw_background(drawn, project_scene(drawn))
    figure.canvas.draw()
    shares = np.linspace(0, 1, FRAMES)
    box = axes.get_window_extent()
    inner = slice(int(made.size[1] - box.y1) + 45, int(made.size[1] - box.y0) - 5)  # below the clock, above the axis
    for k in (12, 24, 36):
        film.seek(1 + k)
        frame, colour = (
            np.asarray(film.convert("RGB")).astype(np.int16),
            255 * np.array(_blended_colours(drawn, shares)[k]),
        )
        walkers = (np.abs(frame - colour).sum(2) < 90)[inner]  # a trail is paler
        seen, places = np.nonzero(walkers)[1], drawn.populations[0] + np.array([10 * shares[k], 0])
        assert np.median(seen) == pytest.approx(np.median(axes.transData.transform(places)[:, 0]), abs=12)


def test_first_frame_shows_whole_paths() -> None:
    made = animate_paths(scene())
    film = Image.open(io.BytesIO(made.data))
    first = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(first - np.asarray(made.still.convert("RGB"))).mean() < 2
    film.seek(1)
    begun = np.asarray(film.convert("RGB")).astype(int)
    middle = (slice(150, -150), slice(first.shape[1] // 2 - 20, first.shape[1] // 2 + 20))
    assert (first[middle].min(2) < 230).mean() > 0.1
    assert (begun[middle].min(2) < 230).mean() < 0.01


def test_plot_paths_of_any_dimension() -> None:
    for d in (1, 2, 3, 7):
        assert min(plot_paths(scene(d)).size) > 300


def test_projection_of_one_dimension() -> None:
    view = project_scene(scene(1))
    assert (view.paths[:, :, 0] == TIMES).all()
    assert {(members[:, 0].min(), members[:, 0].max()) for members in view.populations} == {(0, 0), (1, 1)}


def test_projection_on_principal_components() -> None:
    values = RNG.normal(size=(500, 6)) * [0.1, 5, 0.1, 3, 0.1, 0.1]
    ways = principal_directions(values)
    assert np.abs(ways[[1, 3], [0, 1]]).min() > 0.99
    assert (ways[[1, 3], [0, 1]] > 0).all()
    view = project_scene(
        BridgeScene(times=TIMES, paths=np.zeros((2, 15, 6)), populations=[values], names=["a"], columns=list("abcdef"))
    )
    assert view.populations[0].std(0) == pytest.approx([5, 3], rel=0.1)


def test_projection_of_three_dimensions() -> None:
    view = project_scene(scene(3))
    assert view.labels == ("c0", "c1")


def test_cost_field_is_dark() -> None:
    wall = plot_paths(scene(field=lambda p: 1000.0 * (p[:, 1] > 0), frame=(-5.0, 15.0, -8.0, 8.0)))
    free = plot_paths(scene(frame=(-5.0, 15.0, -8.0, 8.0)))
    darker = np.asarray(free).astype(int).mean(2) - np.asarray(wall).astype(int).mean(2)
    inner = darker[120:-120, 150:-20]
    assert inner[: len(inner) // 2 - 40].mean() > 60
    assert abs(inner[len(inner) // 2 + 40 :].mean()) < 10


def test_obstacles_have_an_outline() -> None:
    """White up to the outline, dark at once behind it, the picture whole, and paler beyond it than a wall."""
    drawn = scene(walls=lambda p: (p[:, 0] > 4) & (p[:, 0] < 6) & (np.abs(p[:, 1]) > 2), frame=(-10.0, 20.0, -9.0, 9.0))
    figure, axes = _draw_background(drawn, project_scene(drawn))
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int).mean(2)
    assert axes.get_xlim()[0] < -10 < 20 < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < -9 < 9 < axes.get_ylim()[1]

    def shade(x: float, y: float, size: int = 0) -> float:
        column, row = axes.transData.transform((x, y))
        rows, columns = (slice(round(k) - size, round(k) + size + 1) for k in (len(picture) - 1 - row, column))
        return float(picture[rows, columns].mean())

    pixel = 1 / (axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0])
    for y in (-5.0, 5.0, 8.5):
        assert min(shade(4 + k * pixel, y) for k in range(-2, 3)) < 100  # the outline
        assert shade(4 - 4 * pixel, y) > 250  # no blur before it
        assert shade(4 + 4 * pixel, y) == shade(5, y) < 180
    assert shade(5, 0) > 250
    beyond = shade(-10.45, 5, 5)
    assert shade(5, 5) + 40 < beyond < 250


def test_plot_paths_draws_every_state() -> None:
    times = np.linspace(0, 1, 201)
    paths = np.stack([10 * times, 8 * np.exp(-(((times - 0.51) / 0.004) ** 2))], 1)[None]
    ends = [np.array([[0.0, -9.0]]), np.array([[10.0, 9.0]])]
    whole = BridgeScene(times=times, paths=paths, populations=ends, names=["a", "b"], columns=["x", "y"])
    kept = plot_paths(whole), plot_paths(replace(whole, times=times[::10], paths=paths[:, ::10]))
    reach = [np.nonzero((np.asarray(each).min(2) < 230)[120:, 200:-60].any(1))[0].min() for each in kept]
    assert reach[0] + 50 < reach[1]


def test_heights_of_a_plane() -> None:
    x, y = np.meshgrid(np.linspace(0, 4, 41), np.linspace(0, 4, 41))
    cloud = np.stack([x, y, 2 * x - y], -1).reshape(-1, 3)
    places = np.array([[1.0, 1.0], [2.03, 3.01], [3.5, 0.52]])
    np.testing.assert_allclose(_heights(cloud, places), 2 * places[:, 0] - places[:, 1], atol=0.1)
    assert np.isnan(_heights(cloud, np.array([[7.0, 1.0]]))).all()
    assert np.isfinite(_heights(cloud[:1], cloud[:1, :2])).all()


def test_surface_is_drawn() -> None:
    x, y = np.meshgrid(np.linspace(-5, 15, 81), np.linspace(-8, 8, 65))
    cloud = np.stack([x, y, np.where(y > 0, 5.0, 0.0)], -1).reshape(-1, 3)
    high, bare = plot_paths(scene(3, surface=cloud)), plot_paths(scene(3))
    shade = np.asarray(high).astype(int).mean(2)[120:-120, 150:-60]
    upper, lower = np.quantile(shade[: len(shade) // 3], 0.9), np.quantile(shade[-len(shade) // 3 :], 0.9)
    assert lower - upper > 60
    assert np.quantile(np.asarray(bare).astype(int).mean(2)[120:-120, 150:-60], 0.9) > 250


def test_infinite_and_constant_costs() -> None:
    for field in (lambda p: np.where(p[:, 0] > 5, np.inf, 0.0), lambda p: np.zeros(len(p)), lambda p: np.nan * p[:, 0]):
        assert plot_paths(scene(field=field)).size[0] > 300


def test_interpolate_paths() -> None:
    paths = np.array([[[0.0, 0.0], [1.0, 2.0], [1.0, 4.0]]])
    found = interpolate_paths(paths, np.array([0.0, 1.0, 3.0]), np.array([0.0, 0.5, 2.0, 3.0]))
    assert found[0].tolist() == [[0, 0], [0.5, 1], [1, 3], [1, 4]]


@pytest.mark.parametrize(("time", "last", "text"), [(0.5, 1, "0.50"), (24.0, 72, "24.0"), (1960.25, 5000, "1960")])
def test_format_time(time: float, last: float, text: str) -> None:
    assert format_time(time, np.array([0.0, last])) == text


def test_animation_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.evaluation.report.embedded_picture.MAX_ANIMATION_BYTES", 8_000)
    noise = [Image.fromarray(RNG.integers(0, 256, (120, 160, 3), dtype=np.uint8)) for _ in range(4)]
    made = make_animation(noise, [50] * 4, noise[0])
    assert len(made.data) <= 8_000
    assert made.size[0] < 160
    assert made.still is noise[0]
    with refuses(UsageError, found="1 and 1"):
        make_animation(noise[:1], [50], noise[0])


def test_filmstrip() -> None:
    paths = np.full((3, 4, 8, 8, 1), 255, dtype=np.uint8)
    paths[1, 3] = 0
    strip = np.asarray(filmstrip(paths, ["0", "1", "2", "3"]).convert("L"))[28:]
    dark = np.argwhere(strip < 50)
    assert dark.mean(0) / strip.shape == pytest.approx([0.5, 7 / 8], abs=0.02)


def test_plot_over_time_and_rounds() -> None:
    curves = plot_over_time(TIMES, {"control": TIMES, "cost $x": -TIMES})
    assert curves.size[1] > curves.size[0] / 2
    passed = [
        RoundSummary(number=k, backward=k % 2 == 0, objective=9.0 - k, w2=None if k == 1 else 0.3, floor=0.1)
        for k in (1, 2, 3)
    ]
    tall, flat = plot_rounds(passed), plot_rounds([RoundSummary(number=1, backward=False, objective=2.0)])
    assert tall.size[1] > flat.size[1]


@pytest.mark.parametrize("numbers", [[1], [1, 2], [1, 2, 3, 4, 5, 6, 7]])
def test_plot_rounds_axes(numbers: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr(
        "feller.evaluation.report.cost_plot.to_image", lambda figure: figures.append(figure) or to_image(figure)
    )
    passed = [
        RoundSummary(number=k, backward=k % 2 == 0, objective=4169.0 + k, w2=3.7, floor=k % 2 + 1.0) for k in numbers
    ]
    plot_rounds(passed)
    (figure,) = figures
    axes = figure.axes[-1]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == numbers
    assert not any(one.yaxis.get_offset_text().get_text() for one in figure.axes)
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 3.8
    dashed = {line.get_ydata()[0]: line.get_color() for line in axes.lines if line.get_linestyle() == "--"}
    assert dashed == ({2.0: AHEAD, 1.0: BACK} if len(numbers) > 1 else {2.0: AHEAD})
