"""Waveforms without transcripts."""

import pathlib

import numpy as np
import pytest
import soundfile
import torch

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import split
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawWaveforms
from feller.data.modality import Dataset, Modality
from feller.data.speech.files import load_waveforms
from feller.data.speech.mel import MelConfig
from feller.data.speech.modality import Speech
from feller.data.speech.sounds import Waveforms
from tests.data.speech.clip import CLIPS, TEXTS, clip
from tests.data.speech.written import noise, pairs
from tests.errors import refuses

NAMES = tuple(sorted(TEXTS))


def sounds(source: object, **how) -> Dataset:
    return read(str(source), kind=RawWaveforms, **how)


def kind(data: Dataset) -> Waveforms:
    assert isinstance(data.modality, Waveforms)
    return data.modality


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return pairs(tmp_path_factory.mktemp("sounds"))


def test_waveforms_of_a_folder(folder: pathlib.Path) -> None:
    assert isinstance(read(str(folder)).modality, Speech)
    data = sounds(folder)
    assert kind(data) == Waveforms(MelConfig(), max(len(clip(name).samples) // 160 for name in NAMES))
    for row, length, name in zip(data.values, data.given["length"].tolist(), NAMES, strict=True):
        real = clip(name).samples
        assert length == len(real) // 160 * 160
        np.testing.assert_allclose(row[:length].numpy() / 32767, real[:length], atol=1.6e-5)
        assert (row[length:] == 0).all()


def test_names_of_sounds_in_subfolders(tmp_path: pathlib.Path) -> None:
    for inner in ("x", "y"):
        (tmp_path / inner).mkdir()
        noise(tmp_path / inner / "a.wav")
    assert load_waveforms(tmp_path).names == ("x/a.wav", "y/a.wav")
    assert load_waveforms(tmp_path / "x" / "a.wav").names == ("a.wav",)


def test_states_of_samples(folder: pathlib.Path) -> None:
    data = sounds(folder)
    state = kind(data).encode(data.values)
    assert state.shape[1:] == kind(data).space().shape
    assert torch.equal(kind(data).decode(state), data.values)
    assert kind(data).decode(torch.tensor([[2.0, -2.0, 0.0]])).tolist() == [[32767, -32767, 0]]
    with refuses(InputError):
        kind(data).decode(torch.full((1, 2), torch.nan))


def test_long_sounds_are_cut_into_equal_pieces(folder: pathlib.Path) -> None:
    """Only the samples of an incomplete last frame are lost."""
    data = sounds(folder, longest=1)
    assert kind(data).longest == 100
    assert data.groups is not None
    for i, name in enumerate(NAMES):
        real, mine = clip(name).samples, data.groups == i
        lengths = data.given["length"][mine].tolist()
        joined = torch.cat([row[:n] for row, n in zip(data.values[mine], lengths, strict=True)])
        np.testing.assert_allclose(joined.numpy() / 32767, real[: len(joined)], atol=1.6e-5)
        assert len(joined) == len(real) // 160 * 160
        assert max(lengths) - min(lengths) <= 160


def test_pieces_of_one_sound_are_held_out_together(tmp_path: pathlib.Path) -> None:
    for i in range(6):
        noise(tmp_path / f"{i}.wav", 1.5, 8_000)
    train, held_out = split(sounds(tmp_path, longest=1), 0.3)
    assert train.groups is not None
    assert held_out.groups is not None
    assert len(held_out) == 4
    assert not {*train.groups.tolist()} & {*held_out.groups.tolist()}


def test_like_sets_rate_and_length(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    modality = sounds(folder, longest=1).modality
    noise(tmp_path / "a.wav", 2.5, 8_000)
    data = read(str(tmp_path), like=modality)
    assert data.modality == modality
    assert data.given["length"].tolist() == [13_280, 13_280, 13_440]
    assert data.groups is not None
    assert data.groups.tolist() == [0, 0, 0]


def test_short_sounds_are_left_out(tmp_path: pathlib.Path) -> None:
    noise(tmp_path / "a.wav", 0.01)
    with refuses(InputError, file=str(tmp_path), found="only shorter ones"):
        sounds(tmp_path)
    noise(tmp_path / "b.wav", 0.5)
    data = sounds(tmp_path)
    assert len(data) == 1
    assert "1 of 2" in data.notes[-1]


def test_most_sounds_determine_the_rate(tmp_path: pathlib.Path) -> None:
    for name, rate in (("a", 8_000), ("b", 8_000), ("c", 16_000)):
        noise(tmp_path / f"{name}.wav", 0.5, rate)
    assert kind(sounds(tmp_path)).mel == MelConfig.default_for(8_000)
    assert len(sounds(CLIPS / NAMES[0])) == 1


def test_sources_without_sounds_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    for source, found in ((tmp_path, "none"), (tmp_path / "a.csv", str(tmp_path / "a.csv")), (tmp_path / "no", "none")):
        with refuses(InputError, found=found):
            sounds(source)
    (tmp_path / "b.wav").write_text("no sound")
    with refuses(InputError, file=str(tmp_path)):
        sounds(tmp_path)


def test_written_sounds(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = sounds(folder, longest=1)
    kind(data).write(data.values, data.given, tmp_path / "out")
    written = sorted((tmp_path / "out").glob("*.wav"))
    assert len(written) == len(data)
    samples, rate = soundfile.read(str(written[0]), dtype="int16")
    assert rate == 16_000
    assert torch.equal(torch.from_numpy(samples), data.values[0, : data.given["length"][0]])
    one = data.subset(torch.tensor([1]))
    kind(data).write(one.values, one.given, tmp_path / "one.wav")
    assert len(soundfile.read(str(tmp_path / "one.wav"))[0]) == data.given["length"][1]
    with refuses(UsageError, found="7"):
        kind(data).write(data.values, data.given, tmp_path / "two.wav")
    arrays = kind(data).arrays(data.values, data.given)
    assert arrays["sound"].shape == tuple(data.values.shape)
    assert arrays["rate"] == 16_000
    assert kind(data).num_entries(data.values).le(data.given["length"]).all()


def test_record_round_trip(folder: pathlib.Path) -> None:
    modality = sounds(folder).modality
    assert from_dict(Modality, to_dict(modality)) == modality  # pyrefly: ignore
    with refuses(InputError, argument="longest", found="0"):
        Waveforms(MelConfig(), 0)
