"""Examples of time series: weather at three airports in windows of five days, and an electrocardiogram."""

import pathlib
from collections.abc import Callable

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


ECG_STEPS, ECG_STRIDE = 128, 32
"""Steps of a series of the electrocardiogram, and between the starts of training series."""
ECG_BLOCK, ECG_TEST = 10, 2
"""Length of a block of the recording, and of its last part, which is `test`, in series."""


def weather(part: str) -> Dataset:
    """Return series of 120 hours of weather: 594 (`train`) or 54 (`test`), with the airport as label.

    Series start at noon, Eastern Standard Time. Of each 20 days, the last five are one test series per airport, and a
    training series starts on each of the first eleven. So training series overlap, but not with test series.
    """
    return _as_train(weather_series, part)


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


def ecg(part: str) -> Dataset:
    """Return series of 128 steps of an electrocardiogram at 120 Hz, in mV: 812 (`train`) or 56 (`test`).

    Of each 1,280 steps of the recording, the last 256 are two test series, and a training series starts at each 32nd of
    the others. So training series overlap, but not with test series.
    """
    return _as_train(ecg_series, part)


def ecg_series(part: str) -> RawArrays:
    """Return the series of a part in mV."""
    signal = load_arrays(pathlib.Path(__file__).with_name("ecg.npz"))["microvolts"] / 1000
    border = (ECG_BLOCK - ECG_TEST) * ECG_STEPS
    last = ECG_BLOCK * ECG_STEPS - ECG_STEPS
    offsets = range(border, last + 1, ECG_STEPS) if part == "test" else range(0, border - ECG_STEPS + 1, ECG_STRIDE)
    blocks = range(0, len(signal) - ECG_BLOCK * ECG_STEPS + 1, ECG_BLOCK * ECG_STEPS)
    starts = [block + offset for block in blocks for offset in offsets]
    values = np.stack([signal[start : start + ECG_STEPS] for start in starts])[..., None]
    names = tuple(f"step {start}" for start in starts)
    return RawArrays(values, names=names, columns=("lead_mlii",), step=1.0)


def _as_train(series: Callable[[str], RawArrays], part: str) -> Dataset:
    """Return a part, standardised by the statistics of `train`."""
    train = array_dataset(series("train"))
    return train if part == "train" else Dataset(*train.modality.values_from_raw(series(part)), train.modality)
