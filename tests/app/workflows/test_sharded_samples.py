"""Samples in shards equal those of one file, for any number of processes and kills."""

import json
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller import open_run, open_shards
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
from feller.models.model import Model, load_model
from tests.app import asked
from tests.errors import refuses

pytestmark = pytest.mark.portable

TINY = ("--recipe", "points", "--architecture.width", 8, "--architecture.depth", 1, "--steps", 2)
BATCH = 4096
"""Batch size of the network."""


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    path = tmp_path_factory.mktemp("sharded") / "moons"
    asked.run("fit", "example:moons", *TINY, "--sampling.nfe", 2, "--report", "none", "--out", path)
    return open_run(path)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    home = tmp_path_factory.mktemp("sharded-people")
    rows = [f"C-{i:04d},{i % 7},{'yes' if i % 3 else 'no'}" for i in range(1, 121)]
    (home / "people.csv").write_text("\n".join(["person,age,married", *rows]) + "\n")
    words = ("--recipe", "table-marginals", "--report", "none", "--out", home / "run")
    asked.run("fit", home / "people.csv", *words)
    return open_run(home / "run")


def make(run, n, size, out, sampler=None, *, overwrite=False, **options):
    about = sampler or make_sampler(run, config_of(SampleConfig, **options))
    return write_sharded_samples(run, about, n, size, out=str(out), overwrite=overwrite)


def one_file(run, n, out, **options):
    return sample(run, config_of(SampleConfig, n=n, out=str(out), **options))


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_shards_of_whole_batches_equal_one_file(moons, tmp_path):
    found = make(moons, BATCH + 100, BATCH, tmp_path / "many")
    whole = one_file(moons, BATCH + 100, tmp_path / "whole.npz").dataset
    parts = [np.load(path)["samples"] for path in found]
    assert [len(part) for part in parts] == [BATCH, 100]
    assert np.array_equal(np.concatenate(parts), whole.numpy())
    assert sorted(content(tmp_path / "many")) == [MANIFEST, "samples-00000.npz", "samples-00001.npz"]


def test_shards_of_partial_batches_equal_one_file_up_to_rounding(moons, tmp_path):
    found = make(moons, 1000, 300, tmp_path / "many")
    whole = one_file(moons, 1000, tmp_path / "whole.npz").dataset
    assert np.allclose(np.concatenate([np.load(path)["samples"] for path in found]), whole.numpy(), atol=1e-5)


def test_killed_command_resumes_to_the_same_bytes(moons, tmp_path, monkeypatch):
    make(moons, 1000, 300, tmp_path / "whole")
    write, times, many = Sampler.write, iter(range(9)), tmp_path / "many"

    def torn(self, drawn, place, **numbers):
        if next(times) == 2:
            place.write_bytes(b"half a fi")
            raise MemoryError
        write(self, drawn, place, **numbers)

    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "write", torn)
        with pytest.raises(MemoryError):
            make(moons, 1000, 300, many)
    assert not open_shards(many).is_finished
    assert not (many / "samples-00002.npz").exists()  # nothing torn has a shard's name
    kept = (many / "samples-00001.npz").stat().st_mtime_ns
    make(moons, 1000, 300, many)
    assert content(many) == content(tmp_path / "whole")
    assert (many / "samples-00001.npz").stat().st_mtime_ns == kept


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"x"), lambda path: path.unlink()])
def test_damaged_shards_are_drawn_again(moons, tmp_path, damage):
    make(moons, 600, 300, tmp_path / "many")
    whole = content(tmp_path / "many")
    damage(tmp_path / "many" / "samples-00001.npz")
    make(moons, 600, 300, tmp_path / "many")
    assert content(tmp_path / "many") == whole


@pytest.mark.parametrize(
    ("n", "size", "options", "difference"),
    [
        (600, 300, {"seed": 1}, "seed was 0, is 1"),
        (900, 300, {}, "n was 600, is 900"),
        (600, 200, {}, "shard was 300, is 200"),
        (600, 300, {"nfe": 4}, "nfe"),
    ],
)
def test_other_settings_are_refused_without_overwrite(moons, tmp_path, n, size, options, difference):
    many = tmp_path / "many"
    make(moons, 600, 300, many)
    before = content(many)
    with refuses(UsageError, file=str(many)) as caught:
        make(moons, n, size, many, **options)
    assert difference in str(caught.value)
    assert content(many) == before
    make(moons, n, size, many, **options, overwrite=True)
    make(moons, n, size, tmp_path / "other", **options)
    assert content(many) == content(tmp_path / "other")


def test_other_weights_are_refused(moons, tmp_path):
    make(moons, 600, 300, tmp_path / "many")
    other = tmp_path / "run"
    other.mkdir()
    for name in ("model.json", "recipe.json"):
        shutil.copy(moons.path / name, other)
    shutil.copy(moons.weights, other / "average.safetensors")
    with refuses(UsageError):
        make(Run(other), 600, 300, tmp_path / "many")


def test_folders_with_other_files_are_kept(moons, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "samples-00000.npz").write_text("mine")
    for folder in (tmp_path / "mine", moons.path):
        before = content(folder)
        with refuses(InputError):
            make(moons, 10, 5, folder, overwrite=True)
        assert content(folder) == before
    assert not (tmp_path / "mine" / "lock").exists()


def test_folder_is_locked(moons, tmp_path):
    (tmp_path / "many").mkdir()
    with Run(tmp_path / "many").lock(), refuses(InputError):
        make(moons, 10, 5, tmp_path / "many")
    make(moons, 10, 5, tmp_path / "many")


def test_refused_options_leave_no_manifest(moons, tmp_path):
    with refuses(UsageError, argument="given"):
        make(moons, 10, 5, tmp_path / "many", given={"label": "7"})
    assert make(moons, 10, 5, tmp_path / "many").is_finished


@pytest.mark.parametrize(
    ("out", "files"),
    [
        ("many", ["samples-00000.npz", "samples-00001.npz"]),
        ("many/part.csv", ["part-00000.csv", "part-00001.csv"]),
        ("many/{shard}.parquet", ["00000.parquet", "00001.parquet"]),
        ("many/{shard}", ["00000", "00001"]),
    ],
)
def test_file_names_and_formats(moons, tmp_path, out, files):
    assert [path.name for path in make(moons, 7, 4, tmp_path / out)] == files
    values, _ = read_samples(tmp_path / "many", load_model(moons).spec.modality)
    whole = one_file(moons, 7, tmp_path / "whole.npz").dataset
    assert torch.allclose(values.double(), whole.values.double(), atol=1e-5)


@pytest.mark.parametrize("out", ["{shard}/many.npz", "many/{shard}-{shard}.npz", "many/{shrad}.csv", "many/a.cif"])
def test_refused_file_names(moons, tmp_path, out):
    with refuses(UsageError):
        make(moons, 7, 4, tmp_path / out)
    assert not (tmp_path / "many").exists()


def test_identifiers_and_conditions_of_rows(people, tmp_path):
    found = make(people, 10, 4, tmp_path / "many" / "rows.csv", given={"married": "no"})
    rows = pd.concat([pd.read_csv(path) for path in found])
    assert rows["person"].tolist() == [f"C-{i:04d}" for i in range(1, 11)]
    assert set(rows["married"]) == {"no"}
    place = one_file(people, 10, tmp_path / "rows.csv", given={"married": "no"}).path
    assert pd.read_csv(place)["age"].tolist() == rows["age"].tolist()


def test_raking_is_done_in_each_shard(people):
    plain = make_sampler(people)
    model, table = plain.model, plain.model.spec.modality
    spec = replace(model.spec, modality=table.with_marginals_of(plain.draw(200).values))
    sampling = replace(plain.sampling, raking_oversample=5)
    about = replace(plain, model=Model.from_spec(spec, model.network), sampling=sampling)
    parts = [about.draw(40, first=first).values for first in (0, 40)]
    assert torch.equal(parts[0], about.draw(40).values)
    assert not torch.equal(parts[0], parts[1])


def test_options_of_the_command(moons, tmp_path):
    out = tmp_path / "many"
    found = asked.run("sample", moons.path, "-n", "1e2", "--shard-size", "6e1", "--nfe", 4, "--seed", 5, "--out", out)
    assert found == {"run": str(moons.path), "samples": str(out), "n": 100, "shards": 2}
    held = open_shards(out)
    assert (held.n, held.settings["seed"], held.settings["sampling"]["nfe"]) == (100, 5, 4)
    asked.run("sample", moons.path, "-n", 100, "--shard-size", 60, "--out", out, "--overwrite")
    assert open_shards(out).settings["seed"] == 0


def test_python_returns_the_opened_shards(moons, tmp_path):
    shards = feller.sample(moons, n=10, shard_size=4, nfe=2, out=str(tmp_path / "many"), verbose=False)
    assert shards == open_shards(tmp_path / "many")
    assert [len(np.load(path)["samples"]) for path in shards] == [4, 4, 2]


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("-n 1.5", {"argument": "n", "found": "'1.5'"}),
        ("-n 1e400", {"argument": "n", "found": "'1e400'"}),
        ("-n 1e20", {"argument": "n", "found": "100,000,000,000,000,000,000"}),
        ("-n 1e20 --shard-size 10", {"argument": "n", "found": "100,000,000,000,000,000,000"}),
        ("-n 10 --shard-size 0", {"argument": "shard", "found": "0"}),
        ("-n 10 --out {shard}.npz", {}),
        ("-n 10 --overwrite", {"argument": "overwrite"}),
        ("--shard-size 10 --complete people.csv -n 5", {"argument": "complete"}),
    ],
)
def test_options_are_refused_before_the_model_is_read(moons, monkeypatch, words, fields):
    monkeypatch.setattr("feller.app.workflows.sampler.load_model", lambda *rest, **more: pytest.fail("read"))
    asked.refuse("sample", moons.path, *words.split(), **fields)


def test_samples_of_one_process_only(monkeypatch):
    monkeypatch.setattr("feller.app.workflows.sample.get_engine", lambda: SimpleNamespace(world_size=2))
    for what in ("speech", "documents", "the ends of a bridge"):
        with refuses(UsageError):
            _check_alone(what)
    _check_alone("samples")


def test_written_shards_are_freed(moons, tmp_path, monkeypatch):
    write, before, held = Sampler.write, [], []

    def looked(self, drawn, place, **numbers):
        held.append([reference() is not None for reference in before])
        before.append(weakref.ref(drawn.values))
        write(self, drawn, place, **numbers)

    monkeypatch.setattr(Sampler, "write", looked)
    make(moons, 1500, 500, tmp_path / "many")
    assert held == [[], [False], [False, False]]


class Crew:
    """Threads in place of processes."""

    def __init__(self, ranks: int) -> None:
        self.ranks, self.said, self.parts = ranks, [""], [None] * ranks
        self.barrier, self.own = threading.Barrier(ranks), threading.local()

    def engine(self) -> "One":
        return self.own.engine

    def each(self, work: Callable[[], Any]) -> list[Any]:
        found: list[Any] = [None] * self.ranks

        def one(rank):
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
    """The engine of one of several processes."""

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
def crew(monkeypatch):
    def of(ranks):
        crew = Crew(ranks)
        monkeypatch.setattr(sharded_samples, "get_engine", crew.engine)
        monkeypatch.setattr(sampler, "get_engine", crew.engine)
        return crew

    return of


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_shards(moons, tmp_path, crew, ranks):
    about = make_sampler(moons)  # before there are threads, in which no model is read
    make(moons, 1000, 300, tmp_path / "one", about)
    found = crew(ranks).each(lambda: make(moons, 1000, 300, tmp_path / "many", about))
    assert found[0].is_finished
    assert content(tmp_path / "many") == content(tmp_path / "one")


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_batches_and_log_probabilities(moons, crew, ranks):
    about, model, together = make_sampler(moons), load_model(moons), crew(ranks)
    data = about.draw(2 * BATCH + 10)
    for drawn in together.each(lambda: about.draw(len(data), ranks=together.engine())):
        assert torch.equal(drawn.values, data.values)
    part = data.subset(torch.arange(BATCH + 10))
    expected = model.log_prob(part)
    for found in together.each(lambda: model.log_prob(part, process_group=together.engine())):
        assert torch.equal(found, expected)


def test_all_processes_end_if_the_first_is_refused(moons, tmp_path, crew):
    make(moons, 600, 300, tmp_path / "many")
    other = make_sampler(moons, config_of(SampleConfig, seed=1))
    found = crew(2).each(lambda: make(moons, 600, 300, tmp_path / "many", other))
    assert [type(error) for error in found] == [UsageError, InputError]


@pytest.mark.parametrize("both", [False, True])
def test_failed_process_ends_the_first(moons, tmp_path, crew, monkeypatch, both):
    """Also where the folder in which it is noted is gone."""
    about, many = make_sampler(moons), tmp_path / "many"

    def fails(self, drawn, place, **numbers):
        if numbers["first"] == 300:
            if both:
                shutil.rmtree(many / ".shards")
            raise InputError("no room for the second")
        if both:
            raise InputError("no room for the first")
        write(self, drawn, place, **numbers)

    write = Sampler.write
    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "write", fails)
        first, second = crew(2).each(lambda: make(moons, 600, 300, many, about))
    assert str(second) == "no room for the second"
    assert isinstance(first, InputError)
    assert (str(first) == "no room for the first") == both
    assert crew(2).each(lambda: make(moons, 600, 300, many, about))[0].is_finished


@pytest.mark.parametrize("damaged", [0, 1])
def test_late_process_is_waited_for(moons, tmp_path, crew, monkeypatch, damaged):
    """All shards were noted before a kill; then one was damaged, and the process that checks it starts late."""
    about, folder = make_sampler(moons), tmp_path / "many"
    done = make(moons, 600, 300, folder, about)
    whole = content(folder)
    (folder / ".shards").mkdir()
    for number, shard in enumerate(done.shards):
        (folder / ".shards" / f"{number}.json").write_text(json.dumps(to_dict(shard)))
    replace(done, shards=()).write()
    (folder / done.file_name(damaged)).write_bytes(b"x")
    draw, waits, waiting = sharded_samples._draw, sharded_samples._wait, threading.Event()

    def late(*what):
        if not sharded_samples.get_engine().is_main_process:
            assert waiting.wait(20)
            time.sleep(0.3)
        draw(*what)

    def announced(*what):
        waiting.set()
        waits(*what)

    monkeypatch.setattr(sharded_samples, "_draw", late)
    monkeypatch.setattr(sharded_samples, "_wait", announced)
    found = crew(2).each(lambda: make(moons, 600, 300, folder, about))
    assert found[0].is_finished
    assert isinstance(found[1], ShardedSamples)
    assert content(folder) == whole
    assert not (folder / ".shards").exists()
