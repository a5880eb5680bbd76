"""All kinds of data that begin with noise go to shards."""

import pytest
import torch

from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.workflows.sampler import make_sampler
from feller.app.workflows.sharded_samples import write_sharded_samples
from feller.core.pytree import leaves
from feller.data.loading.sample_reader import read_samples
from tests.models.export.untrained import as_run, untrained

N, SHARD = 7, 3
KINDS = (
    ("digits", "images", "png"),
    ("digits", "levels-mask", "png"),
    ("digits", "image-label", "png"),
    ("volcano", "manifold", None),
    ("torsions", "manifold", None),
    ("perovskites", "crystals", "cif"),
    ("molecules", "molecules", "xyz"),
    ("backbones", "backbones", "pdb"),
    ("proteins", "proteins", "pdb"),
    ("adult", "table", None),
    ("adult", "table-flow", None),
    ("shakespeare", "text", None),
    ("shakespeare", "text-autoregressive", None),
)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "recipe", "ending"), KINDS, ids=[f"{data} {recipe}" for data, recipe, _ in KINDS])
def test_shards_of_a_kind(tmp_path, data, recipe, ending):
    model, made = untrained(f"example:{data}", recipe)
    run = as_run(tmp_path / "run", model, made, f"example:{data}")
    about = make_sampler(run, config_of(SampleConfig, nfe=None if recipe in ("text-autoregressive", "table") else 2))
    whole = about.draw(N)
    for start in range(0, N, SHARD):
        part = about.draw(min(SHARD, N - start), first=start)
        index = torch.arange(start, start + len(part))
        for one, other in zip(leaves(part.values), leaves(whole.subset(index).values), strict=True):
            assert torch.allclose(one.double(), other.double(), atol=2e-3)
    write_sharded_samples(run, about, N, SHARD, out=str(tmp_path / "many"))
    values, _ = read_samples(tmp_path / "many", model.spec.modality)
    assert len(next(leaves(values))) == N
    found = write_sharded_samples(run, about, N, SHARD, out=str(tmp_path / "folders" / "{shard}"))
    assert [path.is_dir() for path in found] == [True] * 3
    if ending is not None:
        names = [one.stem for path in found for one in path.rglob(f"*.{ending}") if one.name != "grid.png"]
        assert sorted(names) == [f"{i:05}" for i in range(N)]
    found.verify()
