"""Fingerprints of data that are computed: the same on every processor, others once a file is another."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from feller.app.workflows.auditing.audit_target import open_audit_target
from feller.app.workflows.bridges.bridge_run import BridgeRecord
from feller.app.workflows.bridges.bridge_run import reread_populations as crowds_again
from feller.app.workflows.run_config import fingerprint, is_same_data, read_fit_record, reread_data
from feller.core.errors import InputError
from feller.data.loading.dataset_reader import read
from feller.data.speech.mel import MelConfig
from feller.spaces import Sphere
from feller.training.checkpoint import read_counters
from tests.app.asked import run as fit
from tests.data.speech.clip import CLIPS, TEXTS
from tests.errors import refuses
from tests.records import fit_record
from tests.safety.specimen_runs import copied

pytestmark = pytest.mark.portable

OTHERS = ("8a8905ae223e751f", "7aef1b5b03ac0f98", "a845af8958338bf8", "0123456789abcdef")
"""Fingerprints of `example:moons` from before it was rounded, as three processors had it, and one that none had."""
NAME = "LJ001-0008.flac"
PRINTS = {
    "digits": "d6e293375657a21b",
    "moons": "read-f7f9045b923c3e79",
    "backbones": "a106bda7fbfdf994",
    "proteins": "75bdd618ca670175",
    "molecules": "2ac95cef5e49d1dc",
    "perovskites": "9ced30d801149d7b",
    "cells": "319b5512a4a3e848",
    "jacksboro": "adcd7e68cb642a8a",
    "checkerboard": "763995ac2b202d54",
    "volcano": "97cdafba6043886a",
    "torsions": "272ce290ff2e4818",
    "shakespeare": "3417ca4665317619",
}


def other_bits(values):
    """Return values as another processor may have computed them."""
    return torch.nextafter(values, torch.full_like(values, torch.inf))


def named(run, **asked):
    """Change what the record of a run says was asked."""
    content = json.loads(run.recipe.read_text())
    content["asked"] |= asked
    run.recipe.write_text(json.dumps(content))
    return run


@pytest.mark.parametrize("name", PRINTS)
def test_examples(name):
    assert fingerprint(read(f"example:{name}")) == PRINTS[name]


def test_older_run_of_moons_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})  # reports are tested elsewhere
    for before in OTHERS:
        run = named(copied(tmp_path / before), fingerprint=before)
        assert open_audit_target(run, None).train.total == 20_000
    assert open_audit_target(run, "example:moons").train.total == 20_000
    fit("fit", "--resume", "--out", run.path, "--steps", 5)
    assert read_counters(run)["step"] == 5
    assert read_fit_record(run).provenance.fingerprint == OTHERS[-1]  # it stays known as the older run that it is


def test_other_rows_are_not_older_moons(tmp_path):
    rows = tmp_path / "a.csv"
    rows.write_text("x,y\n" + "".join(f"{i / 7},{i / 3}\n" for i in range(40)))
    with refuses(InputError):
        open_audit_target(copied(tmp_path / "r"), str(rows))
    run = named(copied(tmp_path / "s"), data=str(rows))
    for data in (None, "example:moons"):
        with refuses(InputError):
            open_audit_target(run, data)


def test_new_run_of_moons(tmp_path):
    now = fingerprint(read("example:moons"))
    assert open_audit_target(named(copied(tmp_path / "r"), fingerprint=now), None).train.total == 20_000
    with refuses(InputError):
        open_audit_target(named(copied(tmp_path / "s"), fingerprint="read-0123456789abcdef"), None)


def test_moons_are_known_by_what_follows_another_model():
    kind = read("example:moons").modality
    asked = fit_record(data="example:moons", recipe="points", size="tiny", seed=0, start_from="older")
    data = read("example:moons", like=kind)
    assert fingerprint(data) == PRINTS["moons"]
    for before in (*OTHERS, PRINTS["moons"]):
        assert is_same_data(asked.with_provenance(fingerprint=before), data)


def test_speech_is_known_by_its_files(tmp_path, monkeypatch):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / NAME).write_bytes((CLIPS / NAME).read_bytes())
    (folder / NAME).with_suffix(".txt").write_text(TEXTS[NAME])
    (folder / "speakers.csv").write_text(f"id,speaker\n{NAME.partition('.')[0]},linda\n")
    asked = fit_record(data=str(folder), recipe="speech", size="tiny", seed=0)
    there = read(str(folder))
    old, asked = bits(there), asked.with_provenance(fingerprint=fingerprint(there))
    assert fingerprint(read(str(folder), like=there.modality)) == asked.provenance.fingerprint
    assert is_same_data(asked.with_provenance(fingerprint=old), there)  # on the processor that wrote an older run
    usual = MelConfig.log_mel
    monkeypatch.setattr(MelConfig, "log_mel", lambda mel, sound: other_bits(usual(mel, sound)))
    elsewhere = read(str(folder))
    assert not torch.equal(elsewhere.values["mel"], there.values["mel"])
    assert is_same_data(asked, elsewhere)
    older = asked.with_provenance(fingerprint="0123456789abcdef", notes=elsewhere.notes)  # as another processor had it
    assert is_same_data(older, there)
    assert not is_same_data(older.with_provenance(notes=()), there)
    assert not is_same_data(older.with_provenance(notes=("1 sounds, 9.9 minutes",)), there)
    for change in (other_text, other_sample, other_speaker, other_pronunciation):
        shutil.copytree(folder, tmp_path / change.__name__)
        assert change(tmp_path / change.__name__)
        assert not is_same_data(asked, read(str(tmp_path / change.__name__)))


def other_text(folder):
    return (folder / NAME).with_suffix(".txt").write_text("has never been surpassed!")


def other_sample(folder):
    samples, rate = soundfile.read(folder / NAME, dtype="int16")
    samples[1000] += 1
    soundfile.write(folder / NAME, samples, rate, subtype="PCM_16")
    return True


def other_speaker(folder):
    table = folder / "speakers.csv"
    return table.write_text(table.read_text().replace("linda", "kim"))


def other_pronunciation(folder):
    return (folder / "lexicon.txt").write_text("never N EH1 V AH0\n")


def bits(data):
    """Return the fingerprint that older runs have."""
    return fingerprint(replace(data, fingerprint=""))


def test_points_of_a_space(tmp_path, monkeypatch):
    file = tmp_path / "a.csv"
    rows = np.random.default_rng(0).normal(size=(30, 3))
    np.savetxt(file, rows, delimiter=",", header="x,y,z", comments="")
    asked = fit_record(data=str(file), recipe="manifold", size="tiny", seed=0, space="sphere", project=True)
    there = reread_data(asked, None)
    asked, usual = asked.with_provenance(fingerprint=fingerprint(there)), Sphere.project
    assert is_same_data(asked.with_provenance(fingerprint=bits(there)), there)
    monkeypatch.setattr(Sphere, "project", lambda space, x: other_bits(usual(space, x)))
    elsewhere = reread_data(asked, None)
    assert not torch.equal(elsewhere.values, there.values)
    rows[3, 1] += 1e-6
    np.savetxt(file, rows, delimiter=",", header="x,y,z", comments="")
    with refuses(InputError):
        reread_data(asked, None)


def test_part_of_data():
    data = read("example:moons")
    first, second = (data.subset(torch.arange(start, start + 9)) for start in (0, 9))
    assert len({fingerprint(one) for one in (data, first, second)}) == 3
    assert fingerprint(data.subset(torch.arange(9))) == fingerprint(first)


def test_older_bridge_from_moons():
    names = ("example:moons", "example:checkerboard")
    before = BridgeRecord(populations=names, prints=(OTHERS[0], PRINTS["checkerboard"]), times=(0.0, 1.0), noise=1.0)
    assert crowds_again(before).fingerprints == (PRINTS["moons"], PRINTS["checkerboard"])
    with refuses(InputError):
        crowds_again(replace(before, prints=(OTHERS[0], OTHERS[1])))


def test_arrays_with_large_offsets_are_known_by_the_float32_values_of_older_runs():
    values = np.random.default_rng(0).normal(size=(20, 5, 1)) + 1e5
    data, other = read(values), read(values + 0.1)
    assert data.values.dtype == torch.float64
    older = fit_record(data="a.npy", recipe="arrays", size="tiny", seed=0).with_provenance(
        fingerprint=fingerprint(replace(data, values=data.values.float()))
    )
    assert is_same_data(older, data)
    assert not is_same_data(older, other)
