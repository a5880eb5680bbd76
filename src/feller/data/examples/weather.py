"""Example of time series: weather at three airports, in windows of five days."""

import pathlib

import numpy as np

from feller.data.arrays.modality import array_dataset
from feller.data.files.numpy_files import load_arrays
from feller.data.loading.raw import RawArrays
from feller.data.modality import Dataset

AIRPORTS = ("EWR", "JFK", "LGA")
COLUMNS = ("temperature", "dew_point", "pressure")
"""Channels: degrees Celsius, degrees Celsius, and hPa at sea level."""
WINDOW, PERIOD = 5, 20
"""Days per series, and days of which the last `WINDOW` are `test`."""
NO_READING = np.iinfo(np.int16).min
"""Number in the file for a missing reading."""


def weather(part: str) -> Dataset:
    """Return series of 120 hours of weather: 594 (`train`) or 54 (`test`), with the airport as label.

    Series start at noon, Eastern Standard Time. Of each 20 days, the last five are one test series per airport, and a
    training series starts on each of the first eleven. So training series overlap, but not with test series.
    """
    train = array_dataset(weather_series("train"))
    if part == "train":
        return train
    return Dataset(*train.modality.values_from_raw(weather_series(part)), train.modality)


def weather_series(part: str) -> RawArrays:
    """Return the series of a part in physical units, NaN where a reading is missing."""
    tenths = load_arrays(pathlib.Path(__file__).with_name("weather.npz"))["tenths"]  # [airport, hour, channel]
    hours = np.where(tenths == NO_READING, np.nan, tenths / 10)
    days = [PERIOD - WINDOW] if part == "test" else range(PERIOD - 2 * WINDOW + 1)
    num_periods = hours.shape[1] // (24 * PERIOD)
    starts = [24 * (PERIOD * period + day) for period in range(num_periods) for day in days]
    values = np.stack([hours[:, start : start + 24 * WINDOW] for start in starts], 1)
    return RawArrays(
        values.reshape(-1, *values.shape[2:]),
        np.repeat(np.arange(len(AIRPORTS)), len(starts)),
        AIRPORTS,
        names=tuple(f"{airport} from hour {start}" for airport in AIRPORTS for start in starts),
        columns=COLUMNS,
        step=1.0,
    )
