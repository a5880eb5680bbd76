"""Samples in shards are the samples that one file would hold, whoever draws them and however often he is killed."""

import json
import pathlib
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from feller import open_run, open_shards
from feller.app.cli import main
from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.workflows import sampler, sharded_samples
from feller.app.workflows.sample import _check_alone, sample
from feller.app.workflows.sampler import Sampler, make_sampler
from feller.app.workflows.sharded_samples import write_sharded_samples
from feller.core.errors import InputError, UsageError
from feller.core.output_shards import MANIFEST, ShardedSamples
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.data.loading.sample_reader import read_samples
from feller.data.tables.modality import Table
from feller.models.model import Model, load_model

pytestmark = pytest.mark.portable

TINY = ("--recipe", "points", "--architecture.width", "8", "--architecture.depth", "1", "--steps", "2")
BATCH = 4096
"""Points that go through the network together."""


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("sharded") / "moons"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
        assert main(["fit", "example:moons", *TINY, "--sampling.nfe", "2", "--out", str(path)]) == 0
    return open_run(path)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("sharded-people")
    rows = [f"C-{i:04d},{i % 7},{'yes' if i % 3 else 'no'}" for i in range(1, 121)]
    (home / "people.csv").write_text("\n".join(["person,age,married", *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
        words = ("--recipe", "table-marginals", "--out", str(home / "run"))
        assert main(["fit", str(home / "people.csv"), *words]) == 0
    return open_run(home / "run")


def made(run: Run, n: int, size: int, out: pathlib.Path, **asked: Any) -> ShardedSamples:
    overwrite, about = asked.pop("overwrite", False), asked.pop("about", None)
    return write_sharded_samples(
        run, about or make_sampler(run, config_of(SampleConfig, **asked)), n, size, out=str(out), overwrite=overwrite
    )


def content(folder: pathlib.Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_they_are_the_samples_of_one_file(moons: Run, tmp_path: pathlib.Path) -> None:
    found = made(moons, BATCH + 100, BATCH, tmp_path / "many")
    whole = sample(moons, config_of(SampleConfig, n=BATCH + 100, out=str(tmp_path / "whole.npz"))).dataset
    parts = [np.load(path)["samples"] for path in found]
    assert [len(part) for part in parts] == [BATCH, 100]
    assert np.array_equal(np.concatenate(parts), whole.numpy())
    assert sorted(content(tmp_path / "many")) == [MANIFEST, "samples-00000.npz", "samples-00001.npz"]


def test_shards_that_cut_a_batch_hold_the_same_to_rounding(moons: Run, tmp_path: pathlib.Path) -> None:
    found = made(moons, 1000, 300, tmp_path / "many")
    whole = sample(moons, config_of(SampleConfig, n=1000, out=str(tmp_path / "whole.npz"))).dataset
    together = np.concatenate([np.load(path)["samples"] for path in found])
    assert np.allclose(together, whole.numpy(), atol=1e-5)


def test_what_was_killed_goes_on_to_the_same_bytes(moons, tmp_path, monkeypatch):
    made(moons, 1000, 300, tmp_path / "whole")
    write, times = Sampler.write, iter(range(9))

    def torn(self: Sampler, drawn: Any, place: pathlib.Path, **numbers: int) -> None:
        if next(times) == 2:
            place.write_bytes(b"half a fi")
            raise MemoryError
        write(self, drawn, place, **numbers)

    monkeypatch.setattr(Sampler, "write", torn)
    with pytest.raises(MemoryError):
        made(moons, 1000, 300, tmp_path / "many")
    monkeypatch.undo()
    assert not open_shards(tmp_path / "many").is_finished
    assert not (tmp_path / "many" / "samples-00002.npz").exists()  # nothing torn has a shard's name
    kept = (tmp_path / "many" / "samples-00001.npz").stat().st_mtime_ns
    made(moons, 1000, 300, tmp_path / "many")
    assert content(tmp_path / "many") == content(tmp_path / "whole")
    assert (tmp_path / "many" / "samples-00001.npz").stat().st_mtime_ns == kept


@pytest.mark.parametrize("again", [lambda path: path.write_bytes(b"x"), lambda path: path.unlink()])
def test_damaged_shards_are_drawn_again(moons, tmp_path, again):
    made(moons, 600, 300, tmp_path / "many")
    whole = content(tmp_path / "many")
    again(tmp_path / "many" / "samples-00001.npz")
    made(moons, 600, 300, tmp_path / "many")
    assert content(tmp_path / "many") == whole


@pytest.mark.parametrize(
    ("n", "size", "asked", "named"),
    [
        (600, 300, {"seed": 1}, "seed was 0, is 1"),
        (900, 300, {}, "n was 600, is 900"),
        (600, 200, {}, "shard was 300, is 200"),
        (600, 300, {"nfe": 4}, "nfe"),
    ],
)
def test_other_settings_are_refused_and_replaced_when_asked(moons, tmp_path, n, size, asked, named):
    made(moons, 600, 300, tmp_path / "many")
    before = content(tmp_path / "many")
    with pytest.raises(UsageError, match=named):
        made(moons, n, size, tmp_path / "many", **asked)
    assert content(tmp_path / "many") == before
    made(moons, n, size, tmp_path / "many", **asked, overwrite=True)
    made(moons, n, size, tmp_path / "other", **asked)
    assert content(tmp_path / "many") == content(tmp_path / "other")


def test_other_weights_are_refused(moons: Run, tmp_path: pathlib.Path) -> None:
    made(moons, 600, 300, tmp_path / "many")
    other = tmp_path / "run"
    other.mkdir()
    for name in ("model.json", "recipe.json"):
        (other / name).write_bytes((moons.path / name).read_bytes())
    (other / "average.safetensors").write_bytes(moons.weights.read_bytes())
    with pytest.raises(UsageError, match="another run"):
        made(Run(other), 600, 300, tmp_path / "many")


def test_folders_of_others_stay_as_they_are(moons: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "samples-00000.npz").write_text("mine")
    for folder in (tmp_path / "mine", moons.path):
        before = content(folder)
        with pytest.raises(InputError, match="files other than shards"):
            made(moons, 10, 5, folder, overwrite=True)
        assert content(folder) == before
    assert not (tmp_path / "mine" / "lock").exists()


def test_only_one_writes_at_once(moons: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "many").mkdir()
    with Run(tmp_path / "many").lock(), pytest.raises(InputError, match="another process is writing to"):
        made(moons, 10, 5, tmp_path / "many")
    made(moons, 10, 5, tmp_path / "many")


def test_wrong_wishes_leave_no_claim_behind(moons: Run, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="given: expected"):
        made(moons, 10, 5, tmp_path / "many", given={"label": "7"})
    assert made(moons, 10, 5, tmp_path / "many").is_finished


@pytest.mark.parametrize(
    ("out", "files"),
    [
        ("many", ["samples-00000.npz", "samples-00001.npz"]),
        ("many/part.csv", ["part-00000.csv", "part-00001.csv"]),
        ("many/{shard}.parquet", ["00000.parquet", "00001.parquet"]),
        ("many/{shard}", ["00000", "00001"]),
    ],
)
def test_names_say_the_form(moons: Run, tmp_path: pathlib.Path, out: str, files: list[str]) -> None:
    found = made(moons, 7, 4, tmp_path / out)
    assert [path.name for path in found] == files
    values, _ = read_samples(tmp_path / "many", load_model(moons).spec.modality)
    whole = sample(moons, config_of(SampleConfig, n=7, out=str(tmp_path / "whole.npz"))).dataset
    assert torch.allclose(values.double(), whole.values.double(), atol=1e-5)


@pytest.mark.parametrize("out", ["{shard}/many.npz", "many/{shard}-{shard}.npz", "many/a.cif"])
def test_wrong_names_are_refused(moons: Run, tmp_path: pathlib.Path, out: str) -> None:
    with pytest.raises(UsageError):
        made(moons, 7, 4, tmp_path / out)
    assert not (tmp_path / "many").exists()


def test_rows_are_numbered_through_and_hold_what_is_given(people: Run, tmp_path: pathlib.Path) -> None:
    found = made(people, 10, 4, tmp_path / "many" / "rows.csv", given={"married": "no"})
    rows = pd.concat([pd.read_csv(path) for path in found])
    assert rows["person"].tolist() == [f"C-{i:04d}" for i in range(1, 11)]
    assert set(rows["married"]) == {"no"}
    place = sample(people, config_of(SampleConfig, n=10, out=str(tmp_path / "rows.csv"), given={"married": "no"})).path
    assert pd.read_csv(place)["age"].tolist() == rows["age"].tolist()


def test_rows_that_are_chosen_among_more_are_chosen_in_each_shard(people: Run) -> None:
    plain = make_sampler(people)
    model, table = plain.model, plain.model.spec.modality
    assert isinstance(table, Table)
    told = replace(model.spec, modality=table.with_marginals_of(plain.draw(200).values))
    about = replace(
        plain, model=Model.from_spec(told, model.network), sampling=replace(plain.sampling, raking_oversample=5)
    )
    parts = [about.draw(40, first=first).values for first in (0, 40)]
    assert torch.equal(parts[0], about.draw(40).values)
    assert not torch.equal(parts[0], parts[1])


def test_flags_reach_the_shards(moons: Run, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "many"
    words = (
        "sample",
        str(moons.path),
        "-n",
        "1e2",
        "--shard-size",
        "6e1",
        "--out",
        str(out),
        "--nfe",
        "4",
        "--seed",
        "5",
    )
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        **{"run": str(moons.path), "samples": str(out)},
        **{"n": 100, "shards": 2},
    }
    held = open_shards(out)
    assert (held.n, held.settings["seed"], held.settings["sampling"]["nfe"]) == (100, 5, 4)
    assert main(["sample", str(moons.path), "-n", "100", "--shard-size", "60", "--out", str(out), "--overwrite"]) == 0
    assert open_shards(out).settings["seed"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-n", "1.5"), "expected a whole number; found '1.5'"),
        (("-n", "1e400"), "expected a whole number; found '1e400'"),
        (("-n", "ten"), "expected a whole number; found 'ten'"),
        (("-n", "10", "--shard-size", "0"), "at least 1"),
        (("-n", "0"), "at least 1"),
        (("-n", "99999999999999999999"), "-n: expected at least 1 and at most 9,007,199,254,740,992; found 9"),
        (("-n", "99999999999999999999", "--shard-size", "10"), "at most 9,007,199,254,740,992; found 9"),
        (("-n", "10", "--out", "{shard}.npz"), "needs --shard-size"),
        (("-n", "10", "--overwrite"), "or --shard-size"),
        (("--shard-size", "10", "--out", "many/{shrad}.csv"), "found {shrad}.csv"),
        (("--shard-size", "10", "--complete", "people.csv"), "Leave out --shard-size"),
    ],
)
def test_wrong_words_are_refused(moons, capsys, words, said):
    assert main(["sample", str(moons.path), *words]) == 2
    assert said in capsys.readouterr().err


def test_numbers_are_refused_before_the_model_is_read(moons: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.app.workflows.sampler.load_model", lambda *rest, **more: pytest.fail("read"))
    for words in ((), ("--shard-size", "10")):
        assert main(["sample", str(moons.path), "-n", "1e20", *words]) == 2


def test_what_cannot_be_shared_is_refused_to_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.app.workflows.sample.get_engine", lambda: SimpleNamespace(world_size=2))
    for what in ("speech", "documents", "the ends of a bridge"):
        with pytest.raises(UsageError):
            _check_alone(what)
    _check_alone("samples")


def test_no_shard_is_held_after_it_is_written(moons, tmp_path, monkeypatch):
    write, before, held = Sampler.write, [], []

    def looked(self: Sampler, drawn: Any, place: pathlib.Path, **numbers: int) -> None:
        held.append([reference() is not None for reference in before])
        before.append(weakref.ref(drawn.values))
        write(self, drawn, place, **numbers)

    monkeypatch.setattr(Sampler, "write", looked)
    made(moons, 1500, 500, tmp_path / "many")
    assert held == [[], [False], [False, False]]


class Crew:
    """Threads that stand in for processes."""

    def __init__(self, ranks: int) -> None:
        self.ranks, self.said, self.parts = ranks, [""], [None] * ranks
        self.barrier, self.own = threading.Barrier(ranks), threading.local()

    def engine(self) -> "One":
        return self.own.engine

    def each(self, work: Callable[[], Any]) -> list[Any]:
        found: list[Any] = [None] * self.ranks

        def one(rank: int) -> None:
            self.own.engine = One(self, rank)
            try:
                found[rank] = work()
            except Exception as error:
                found[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return found


class One:
    """What an engine of several processes does."""

    device = torch.device("cpu")

    def __init__(self, crew: Crew, rank: int) -> None:
        self.crew, self.rank, self.world_size, self.is_main_process = crew, rank, crew.ranks, rank == 0

    def local_slice(self, size: int) -> slice:
        return slice(size * self.rank // self.world_size, size * (self.rank + 1) // self.world_size)

    def gather(self, part: Any) -> list[Any]:
        self.crew.parts[self.rank] = part
        self.crew.barrier.wait(20)
        return [*self.crew.parts]

    def broadcast_str(self, text: str) -> str:
        if self.is_main_process:
            self.crew.said[0] = text
        self.crew.barrier.wait(20)
        return self.crew.said[0]


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Crew]]:
    def of(ranks: int) -> Crew:
        crew = Crew(ranks)
        monkeypatch.setattr(sharded_samples, "get_engine", crew.engine)
        monkeypatch.setattr(sampler, "get_engine", crew.engine)
        return crew

    return of


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_processes_writes_the_same(moons, tmp_path, crew, ranks):
    about = make_sampler(moons)  # before there are threads, in which no model is read
    made(moons, 1000, 300, tmp_path / "one", about=about)
    found = crew(ranks).each(lambda: made(moons, 1000, 300, tmp_path / "many", about=about))
    assert found[0].is_finished
    assert content(tmp_path / "many") == content(tmp_path / "one")


def test_all_processes_end_where_the_first_is_refused(moons, tmp_path, crew):
    made(moons, 600, 300, tmp_path / "many")
    other = make_sampler(moons, config_of(SampleConfig, seed=1))
    found = crew(2).each(lambda: made(moons, 600, 300, tmp_path / "many", about=other))
    assert isinstance(found[0], UsageError)
    assert isinstance(found[1], InputError)


def test_the_first_does_not_wait_for_one_that_failed(moons, tmp_path, crew, monkeypatch):
    write, about = Sampler.write, make_sampler(moons)

    def fails(self: Sampler, drawn: Any, place: pathlib.Path, **numbers: int) -> None:
        if numbers["first"] == 300:
            raise InputError("no room")
        write(self, drawn, place, **numbers)

    monkeypatch.setattr(Sampler, "write", fails)
    found = crew(2).each(lambda: made(moons, 600, 300, tmp_path / "many", about=about))
    assert [str(error) for error in found][1] == "no room"
    assert "another process failed" in str(found[0])
    monkeypatch.setattr(Sampler, "write", write)
    assert crew(2).each(lambda: made(moons, 600, 300, tmp_path / "many", about=about))[0].is_finished


@pytest.mark.parametrize("damaged", [0, 1])
def test_who_comes_late_is_waited_for_whatever_was_noted_before(moons, tmp_path, crew, monkeypatch, damaged):
    """All was noted when a kill came; then a shard was damaged, and the process that looks at it has just begun."""
    about = make_sampler(moons)
    folder = tmp_path / "many"
    done = made(moons, 600, 300, folder, about=about)
    whole = content(folder)
    for number, shard in enumerate(done.shards):
        (folder / ".shards").mkdir(exist_ok=True)
        (folder / ".shards" / f"{number}.json").write_text(json.dumps(to_dict(shard)))
    replace(done, shards=()).write()
    (folder / done.file_name(damaged)).write_bytes(b"x")
    draw, waits, waiting = sharded_samples._draw, sharded_samples._wait, threading.Event()

    def late(*what: Any) -> None:
        if not sharded_samples.get_engine().is_main_process:
            assert waiting.wait(20)
            time.sleep(0.3)
        draw(*what)

    def told(*what: Any) -> None:
        waiting.set()
        waits(*what)

    monkeypatch.setattr(sharded_samples, "_draw", late)
    monkeypatch.setattr(sharded_samples, "_wait", told)
    found = crew(2).each(lambda: made(moons, 600, 300, folder, about=about))
    assert found[0].is_finished
    assert isinstance(found[1], ShardedSamples)
    assert content(folder) == whole
    assert not (folder / ".shards").exists()


def test_what_failed_is_told_where_the_folder_is_gone(moons, tmp_path, crew, monkeypatch):
    write, about = Sampler.write, make_sampler(moons)

    def fails(self: Sampler, drawn: Any, place: pathlib.Path, **numbers: int) -> None:
        if numbers["first"] == 0:
            raise InputError("no room for the first")
        shutil.rmtree(tmp_path / "many" / ".shards")
        raise InputError("no room for the second")

    monkeypatch.setattr(Sampler, "write", fails)
    found = crew(2).each(lambda: made(moons, 600, 300, tmp_path / "many", about=about))
    assert [str(error) for error in found] == ["no room for the first", "no room for the second"]
    monkeypatch.setattr(Sampler, "write", write)
    assert crew(2).each(lambda: made(moons, 600, 300, tmp_path / "many", about=about))[0].is_finished


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_the_batches_of_one_file(moons: Run, crew: Callable[[int], Crew], ranks: int) -> None:
    about = make_sampler(moons)
    n = 2 * BATCH + 10
    alone, together = about.draw(n), crew(ranks)
    for drawn in together.each(lambda: about.draw(n, ranks=together.engine())):
        assert torch.equal(drawn.values, alone.values)


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_log_densities(moons: Run, crew: Callable[[int], Crew], ranks: int) -> None:
    model, together = load_model(moons), crew(ranks)
    data = model.sample(BATCH + 10)
    alone = model.log_prob(data)
    for found in together.each(lambda: model.log_prob(data, process_group=together.engine())):
        assert torch.equal(found, alone)
