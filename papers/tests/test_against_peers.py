"""Comparison with other programs: public bins, runs of peers in virtual environments, references and verdicts."""

import importlib.util
import json
import math
import random
import sys

import numpy as np
import pandas as pd
import pytest

from feller.core.rng import Rng
from feller.evaluation.tables.table_quality import samples_quality
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE
from feller_papers.private_tables import against_peers, packaged_tables, peers
from feller_papers.private_tables.against_peers import Scores, best_peer_verdict, format_scores, packaged, peer_scores
from feller_papers.private_tables.packaged_tables import PACKAGED, PackagedTable
from feller_papers.private_tables.peers import CPU_LIMIT, NOT_INSTALLED, PEERS, SCRIPTS, Peer, sample_peer
from feller_papers.private_tables.schemas import categorical, numerical
from feller_papers.private_tables.setting import NONE, STRONG, Setting

SHUFFLE_SCRIPT = """
import csv, json, random, sys
method, train, task, out = sys.argv[1:]
header, *rows = csv.reader(open(train))
rng = random.Random(json.load(open(task))["seed"])
columns = [rng.sample(column, len(column)) for column in zip(*rows)]
csv.writer(open(out, "w")).writerows([header, *zip(*columns)])
"""
"""Script of a peer that shuffles each column."""
TITLE = "Tiny"


@pytest.fixture
def table(tmp_path, monkeypatch) -> PackagedTable:
    """Return a table of 900 rows in a package, whose target is a function of a number."""
    rng = random.Random(0)
    folder = tmp_path / "tinytables"
    folder.mkdir()
    lines = [f"{x},{rng.choice('uv')},{'yes' if x > 5 else 'no'}" for x in (rng.uniform(0, 10) for _ in range(900))]
    (folder / "tiny.csv").write_text("\n".join(["x,word,y", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    columns = {
        "x": numerical(0, 10, *range(1, 10), decimals=3),
        "word": categorical("u", "v"),
        "y": categorical("no", "yes"),
    }
    tiny = PackagedTable(TITLE, "tinytables", "tiny.csv", lambda frame: frame.round(3), columns)
    monkeypatch.setitem(packaged_tables.PACKAGED, TITLE, tiny)
    return tiny


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function from the text of a script to a peer with this interpreter."""
    python = tmp_path / "peers" / "fake" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(peers.PEERS_VARIABLE, str(tmp_path / "peers"))

    def install(text: str, name: str = "fake") -> Peer:
        script = tmp_path / f"{name}.py"
        script.write_text(text)
        return Peer(name, "fake", script, "shuffle")

    return install


def test_splits_are_deterministic(table) -> None:
    train, held_out = table.frames()
    assert (len(train), len(held_out)) == (600, 300)
    fewer, fewer_held_out = table.frames(100)
    assert (len(fewer), len(fewer_held_out)) == (100, 50)
    assert fewer.equals(train[:100])
    assert not set(fewer["x"]) & set(fewer_held_out["x"])
    assert PackagedTable("none", "no_such_package_", "a.csv", lambda frame: frame, {}).frames() is None


@pytest.mark.parametrize("name", list(PACKAGED))
def test_peers_and_feller_use_the_same_bins(name, tmp_path) -> None:
    """Codes of 200 rows of random cells within the public ranges, and back."""
    table, rng = PACKAGED[name], np.random.default_rng(0)
    cells = {}
    for column, public in table.public_columns().items():
        if "values" in public:
            cells[column] = rng.choice(public["values"], 200)
        else:
            on_edges = rng.choice([public["low"], *public["edges"]], 100).astype(float)
            digits = table.columns[column].get("form", {}).get("decimals", 0)
            cells[column] = np.r_[on_edges, rng.uniform(public["low"], public["high"], 100).round(digits)].astype(str)
    frame = pd.DataFrame(cells)
    frame.to_csv(tmp_path / "train.csv", index=False)
    task = _task_of(table, tmp_path)
    codes = task.codes()
    assert codes.to_numpy().tolist() == table.dataset(frame.astype(str)).values.tolist()
    assert list(task.domain().values()) == [column.num_values for column in table.schema.modelled]
    assert (codes.max() < pd.Series(task.domain())).all()
    task.write(task.cells(codes))
    again = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert table.dataset(again).values.tolist() == codes.to_numpy().tolist()


def _task_of(table, folder):
    spec = importlib.util.spec_from_file_location("peer_task", SCRIPTS / "task.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["peer_task"] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    config = {"columns": table.public_columns(), "epsilon": 1.0, "delta": 1e-5, "seed": 0, "rows": 200}
    (folder / "task.json").write_text(json.dumps(config))
    return module.read_task(["MST", *(str(folder / name) for name in ("train.csv", "task.json", "out.csv"))])


def test_shuffled_columns_score_as_independent_columns(table, installed) -> None:
    setting, peer = Setting(seeds=(0,)), installed(SHUFFLE_SCRIPT)
    scores = peer_scores(setting, TITLE, peer, STRONG, (0,))
    train, held_out = map(table.dataset, table.frames())
    floor = samples_quality(train, train, held_out, Rng(0).fold_in("quality"))
    assert scores.tv2 == pytest.approx((floor["tv2_independent"],), abs=0.03)
    assert min(scores.tv2) > 2 * floor["tv2_floor"]
    assert all(0.3 < auc < 0.7 for auc in scores.auc)
    assert floor["auc_boosted_real"] > 0.99
    assert all(0 < seconds < 5 for seconds in scores.seconds)
    real, independent = against_peers._references(against_peers._evaluate_peer(setting, TITLE, peer, STRONG, 0))
    assert real.tv2 == pytest.approx((floor["tv2_floor"],), abs=0.02)
    assert independent.tv2 == pytest.approx((floor["tv2_independent"],), abs=0.03)
    assert (real.auc[0], real.seconds) == (floor["auc_boosted_real"], ())


def test_samples_of_peers_are_cached(table, installed) -> None:
    train, _ = table.frames(100)
    peer = installed(SHUFFLE_SCRIPT)
    first = sample_peer(peer, table, train, STRONG, 0)
    assert sorted(first.rows["y"]) == sorted(train["y"])
    assert first.rows["x"].tolist() != train["x"].tolist()
    peer.script.write_text("raise SystemExit('run again')")
    again = sample_peer(peer, table, train, STRONG, 0)
    assert again.rows.equals(first.rows)
    assert again.seconds == first.seconds > 0
    assert sample_peer(peer, table, train, NONE, 0).reason == "failed: run again"


def test_reasons_of_peers_that_fail(table, installed, monkeypatch) -> None:
    train, _ = table.frames(100)
    peer = installed("while True: pass", "slow")
    monkeypatch.setattr(peers, "CPU_LIMIT", 1)
    slow = sample_peer(peer, table, train, STRONG, 0)
    assert (slow.rows, slow.reason) == (None, "over 1 CPU seconds")
    assert 0.5 < slow.seconds < 3
    broken = sample_peer(installed("raise ValueError('no such column')", "broken"), table, train, STRONG, 0)
    assert broken.reason == "failed: ValueError: no such column"
    assert CPU_LIMIT > 1
    assert PEERS[0].interpreter() is None
    assert sample_peer(PEERS[0], table, train, STRONG, 0).reason == NOT_INSTALLED
    monkeypatch.delenv(peers.PEERS_VARIABLE)
    assert sample_peer(peer, table, train, STRONG, 0).reason == NOT_INSTALLED


def test_peers_support_their_budgets() -> None:
    private = {peer.name for peer in PEERS if peer.supports(STRONG)}
    free = {peer.name for peer in PEERS if peer.supports(NONE)}
    assert private & free == {"mostlyai-engine TabularARGN"}
    assert free - private == {"SDV Gaussian copula", "SDV CTGAN"}
    assert len(private) == 6
    assert all(peer.script.is_file() for peer in PEERS)


def test_verdicts_need_one_recipe_that_is_best_in_all_scores() -> None:
    theirs = [
        Scores("a", (0.02, 0.04), (0.1, 0.1), (0.7, 0.8)),  # means 0.03, 0.1, 0.75
        Scores("b", (0.05, 0.05), (0.08, 0.08), (0.6, 0.6)),
        Scores("c", reason=NOT_INSTALLED),
    ]
    equal = Scores("equal to the best of each", (0.03, 0.03), (0.08, 0.08), (0.75, 0.75))
    assert best_peer_verdict([equal], theirs) == HOLDS
    worse_tv = Scores("tv2", (0.03, 0.032), (0.08, 0.08), (0.9, 0.9))
    worse_auc = Scores("auc", (0.01, 0.01), (0.01, 0.01), (0.75, 0.74))
    assert best_peer_verdict([worse_tv, worse_auc], theirs) == FAILS
    assert best_peer_verdict([worse_tv, worse_auc, equal], theirs) == HOLDS
    lines = format_scores([*theirs, equal]).splitlines()[1:]
    assert len({line.index("0.0") for line in lines if "0.0" in line}) == 1
    assert lines[1].split()[1:] == ["0.0300", "0.1000", "0.7500"]
    assert lines[3].endswith(NOT_INSTALLED)


def test_claims_are_untestable_without_packages_or_peers(table, installed, monkeypatch) -> None:
    setting = Setting(seeds=(0,), budgets=(STRONG,), rows=200, size="tiny", steps=2, batch=16)
    missing = PackagedTable("Missing", "no_such_package_", "a.csv", lambda frame: frame, {})
    monkeypatch.setattr(against_peers, "PACKAGED", {"Missing": missing})
    assert [claim.verdict for claim in packaged(setting)] == [UNTESTABLE]
    monkeypatch.setattr(against_peers, "PACKAGED", {TITLE: table})
    claims = list(packaged(setting))
    assert [claim.verdict for claim in claims] == [UNTESTABLE]
    assert peers.PEERS_VARIABLE in claims[0].ours


@pytest.mark.slow
def test_printed_scores_have_all_methods(table, installed, monkeypatch) -> None:
    setting = Setting(seeds=(0,), budgets=(STRONG,), rows=200, size="tiny", steps=2, batch=16)
    monkeypatch.setattr(against_peers, "PACKAGED", {TITLE: table})
    monkeypatch.setattr(against_peers, "PEERS", (installed(SHUFFLE_SCRIPT), PEERS[0]))
    (claim,) = packaged(setting)
    names = [line.rpartition("  ")[0].split("  ")[0] for line in claim.ours.splitlines()[2:]]
    assert names[:4] == [*against_peers.OURS, "fake", PEERS[0].name]
    assert claim.verdict in (HOLDS, FAILS)
    numbers = [float(word) for word in claim.ours.splitlines()[2].split()[-4:]]
    assert all(map(math.isfinite, numbers))
