"""The speech modality: states, labels of frames and files."""

import pathlib
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import PhoneAlignment, RawPoints, RawSpeech
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Dataset, Modality
from feller.data.speech.dataset import speech_dataset
from feller.data.speech.mel import MelConfig
from feller.data.speech.modality import Speech
from feller.spaces import Euclidean
from tests.data.speech.clip import TEXTS, clip
from tests.data.speech.written import noise, pairs
from tests.errors import refuses

NAMES = tuple(sorted(TEXTS))
FRAMES = tuple(len(clip(name).samples) // 160 for name in NAMES)
NARROW = MelConfig.default_for(8_000)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("speech")
    pairs(folder)
    (folder / "speakers.csv").write_text("id,speaker\nsense-0880,kim\nLJ001-0002,linda\nLJ001-0008,linda\n")
    return read(str(folder))


def kind(data: Dataset) -> Speech:
    assert isinstance(data.modality, Speech)
    return data.modality


def test_dataset_of_a_folder(data: Dataset) -> None:
    assert len(data) == 3
    assert kind(data).mel == MelConfig.default_for(16_000)
    assert kind(data).longest == 300
    assert kind(data).speakers == ("kim", "linda")
    assert data.values["speaker"].tolist() == [1, 1, 0]
    assert data.values["mel"].shape == (3, 300, 80)
    assert data.values["mel"].dtype == torch.float32
    assert data.given["valid"].sum(1).tolist() == [*FRAMES]
    assert len(kind(data).inventory) == 157


def test_log_mels_of_the_sounds(data: Dataset) -> None:
    for i, name in enumerate(NAMES):
        mel = MelConfig().log_mel(torch.from_numpy(clip(name).samples))
        torch.testing.assert_close(data.values["mel"][i, : len(mel)], mel)
        assert (data.values["mel"][i, len(mel) :] == np.float32(kind(data).statistics.mean)).all()


def test_states_are_standardised(data: Dataset) -> None:
    state, valid = kind(data).encode(data.values), data.given["valid"]
    assert state.dtype == torch.float32
    assert float(state[valid].mean()) == pytest.approx(0, abs=1e-5)
    assert float(state[valid].std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert state[~valid].abs().max() < 1e-6
    decoded = kind(data).decode(state)
    assert [*decoded] == ["mel"]
    torch.testing.assert_close(decoded["mel"], data.values["mel"], atol=1e-5, rtol=0)
    assert kind(data).space() == Euclidean((300, 80))


def test_frame_labels_repeat_phones(data: Dataset) -> None:
    names = kind(data).inventory.names
    for i in range(3):
        phone, duration = data.values["phone"][i], data.values["duration"][i]
        real = phone >= 0
        assert (duration[~real] == 0).all()
        expected = torch.repeat_interleave(phone[real], duration[real])
        assert torch.equal(data.given["phone"][i, : FRAMES[i]], expected)
        assert len(expected) == FRAMES[i]
        assert (data.given["phone"][i, FRAMES[i] :] == 0).all()
        assert names[int(phone[0])] == names[int(phone[real][-1])] == "SIL"
    assert names[int(data.values["phone"][1, 1])] == "HH_B"


def test_num_entries_excludes_padding(data: Dataset) -> None:
    assert kind(data).num_entries(data.values).tolist() == [80 * frames for frames in FRAMES]
    assert kind(data).num_entries({"mel": data.values["mel"]}).tolist() == [300 * 80] * 3


def test_record_round_trip(data: Dataset) -> None:
    assert from_dict(Modality, to_dict(data.modality)) == data.modality  # pyrefly: ignore


def test_like_sets_rate_length_and_speakers(data: Dataset, tmp_path: pathlib.Path) -> None:
    """Sounds at 8 kHz are resampled; longer sounds are left out with a note."""
    noise(pairs(tmp_path) / "long.wav", 3.5, 8_000)
    (tmp_path / "long.txt").write_text("it is long")
    like = replace(kind(data), speakers=("linda",))
    other = read(str(tmp_path), like=like)
    assert other.modality is like
    assert len(other) == 3
    assert other.values["speaker"].tolist() == [-1, -1, -1]
    assert any("long.wav" in note for note in other.notes)
    torch.testing.assert_close(other.values["mel"], data.values["mel"])


def test_narrowband_sounds(data: Dataset, tmp_path: pathlib.Path) -> None:
    for name in TEXTS:
        sound = clip(name, 8_000)
        soundfile.write(tmp_path / f"{pathlib.Path(name).stem}.wav", sound.samples, 8_000)
        (tmp_path / f"{pathlib.Path(name).stem}.txt").write_text(TEXTS[name])
    narrow = read(str(tmp_path))
    assert kind(narrow).mel == MelConfig.default_for(8_000)
    assert narrow.values["mel"].shape == (3, 300, 40)
    assert narrow.given["valid"].sum(1).tolist() == [*FRAMES]


def test_incompatible_data_are_refused(data: Dataset) -> None:
    short = replace(kind(data), longest=200)
    found = RawSpeech(np.array([clip(NAMES[2])], dtype=object), names=("a.wav",))
    with refuses(InputError, place="a.wav", found="2.99 s"):
        short.values_from_raw(found)
    other = RawSpeech(found.values, names=("a.wav",), alignments=(PhoneAlignment(("SIL", "ʃ_S"), (0, 299)),))
    with refuses(InputError, place="a.wav"):
        kind(data).values_from_raw(other)
    with refuses(InputError):
        kind(data).values_from_raw(RawPoints(np.zeros((2, 2))))
    with refuses(InputError, found="none"):
        speech_dataset(found)
    with refuses(InputError):
        kind(data).decode(torch.full((1, 300, 80), torch.nan))


def test_array_round_trip(data: Dataset, tmp_path: pathlib.Path) -> None:
    kind(data).write(data.values, data.given, tmp_path / "all.npz")
    values, given = read_samples(tmp_path / "all.npz", data.modality)
    assert torch.equal(given["valid"], data.given["valid"])
    assert torch.equal(given["phone"], data.given["phone"])
    for name in ("mel", "phone", "duration"):
        assert torch.equal(values[name], data.values[name])
    reloaded = read(str(tmp_path / "all.npz"))
    assert kind(reloaded).statistics == kind(data).statistics
    assert torch.equal(reloaded.values["mel"], data.values["mel"])


def test_samples_are_written_with_their_labels(data: Dataset, tmp_path: pathlib.Path) -> None:
    drawn = kind(data).decode(kind(data).encode(data.values))
    kind(data).write(drawn, data.given, tmp_path / "drawn.npz")
    _, given = read_samples(tmp_path / "drawn.npz", data.modality)
    assert torch.equal(given["phone"], data.given["phone"])
    kind(data).write(drawn, {"valid": data.given["valid"]}, tmp_path / "bare.npz")
    values, given = read_samples(tmp_path / "bare.npz", data.modality)
    assert "phone" not in given
    torch.testing.assert_close(values["mel"][given["valid"]], data.values["mel"][given["valid"]])


@pytest.mark.parametrize(
    ("change", "row", "found"),
    [
        ({"mel": np.zeros((3, 300))}, None, "[3, 300] of float64"),
        ({"valid": np.ones((3, 300))}, None, "[3, 300] of float64"),
        ({"valid": np.zeros((3, 300), dtype=bool)}, 1, None),
        ({"settings": np.zeros(2, dtype=int)}, None, "[2]"),
        ({"settings": np.array(NARROW.settings)}, None, str(NARROW.settings)),
        ({"duration": np.zeros((3, 34), dtype=int)}, 1, None),
        ({"duration": np.zeros((3, 4), dtype=int)}, None, None),
        ({"mel": np.full((3, 300, 80), np.nan)}, 1, None),
    ],
    ids=["mel-shape", "valid-dtype", "not-valid", "settings-shape", "settings", "sum", "duration-shape", "nan"],
)
def test_invalid_arrays_are_refused(
    data: Dataset, tmp_path: pathlib.Path, change: dict[str, np.ndarray], row: int | None, found: str | None
) -> None:
    file = tmp_path / "invalid.npz"
    np.savez(file, **{**kind(data).arrays(data.values, data.given), **change})  # pyrefly: ignore
    fields = {} if found is None else {"found": found}
    with refuses(InputError, file=str(file), row=row, **fields):
        read_samples(file, data.modality)


def test_sound_folder_round_trip(data: Dataset, tmp_path: pathlib.Path) -> None:
    """Measured: log mels of the written sounds differ by 0.10 on average."""
    one = data.subset(torch.tensor([1]))
    for part in (one, data):  # the second write replaces the first
        kind(data).write(part.values, part.given, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"0000{i}.{ending}" for i in range(3) for ending in ("csv", "wav")),
        "grid.png",
    ]
    values, given = read_samples(tmp_path / "out", data.modality)
    assert torch.equal(given["valid"], data.given["valid"])
    assert float((values["mel"] - data.values["mel"])[given["valid"]].abs().mean()) < 0.16
    assert soundfile.info(tmp_path / "out" / "00001.wav").frames == 160 * FRAMES[1]
    kind(data).write(one.values, one.given, tmp_path / "one.wav")
    assert soundfile.info(tmp_path / "one.wav").frames == 160 * FRAMES[1]
    with refuses(UsageError, found="3"):
        kind(data).write(data.values, data.given, tmp_path / "one.wav")


def test_figure(data: Dataset) -> None:
    figure = kind(data).show(data.values, data.given, 3)
    without_labels = kind(data).show({"mel": data.values["mel"]}, {"valid": data.given["valid"]}, 3)
    assert np.asarray(figure).std() > 20
    assert figure.tobytes() != without_labels.tobytes()
    assert figure.width > 1.5 * kind(data).show(data.values, data.given, 1).width
