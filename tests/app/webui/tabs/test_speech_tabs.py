"""The picture of a recording."""

import pathlib

import numpy as np
import pytest

from feller.app.webui.tabs.speech_tabs import GROUND, length_of, wave

soundfile = pytest.importorskip("soundfile")


def test_time_goes_evenly_from_edge_to_edge(tmp_path: pathlib.Path) -> None:
    sound = np.zeros(16_000)
    sound[4_000:8_000] = np.sin(np.arange(4_000))
    soundfile.write(tmp_path / "own.wav", sound, 16_000)
    assert length_of(tmp_path / "own.wav") == 1.0
    found = np.asarray(wave(tmp_path / "own.wav", (200, 40)))
    assert found.shape == (40, 200, 3)
    loud = (found != GROUND).any(-1).sum(0) > 10
    assert loud[50:100].all()
    assert not loud[:50].any()
    assert not loud[100:].any()
