"""What a run cites follows from the objects of its recipe."""

import ast
import pathlib
from dataclasses import replace

import pytest

import feller
from feller.app.workflows.bridges.bridge_run import BridgeRecord, begin
from feller.app.workflows.bridges.populations import Populations
from feller.app.workflows.cite import cite
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.fine_tuning.adjoint_matching import AdjointMatching
from feller.core.citations import cited_papers, parse_citations
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.models.model import Model
from feller.models.spec import save_spec
from feller.paths import Geodesic
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian, ZCdp
from feller.privacy.accounting.ledger import Ledger
from feller.spaces import Sphere
from feller.training.couplings import MinibatchOT
from feller.training.engine import get_engine
from tests.models.export.untrained import as_run, untrained
from tests.records import fit_record

ROOT = pathlib.Path(feller.__file__).parent


@pytest.fixture(scope="module")
def moons():
    return untrained("example:moons", "points")


def keys(bibtex):
    return {line.split("{")[1].rstrip(",") for line in bibtex.splitlines() if line.startswith("@")}


def test_another_objective_cites_other_papers(moons, tmp_path):
    model, recipe = moons
    plain = keys(cite(as_run(tmp_path / "plain", model, recipe, "example:moons")))
    assert "lipman2024" in plain
    assert not plain & {"pooladian2023", "chen2024", "domingoenrich2024", "abadi2016", "hu2021"}
    paired = replace(recipe, objective=replace(recipe.objective, coupling=MinibatchOT()))
    assert keys(cite(as_run(tmp_path / "paired", model, paired, "example:moons"))) == plain | {"pooladian2023"}


def test_guidance_solver_tuning_and_privacy_are_cited(moons, tmp_path):
    model, recipe = untrained("example:digits", "images")
    about = replace(model.spec, sampling=feller.SamplerConfig("dopri5"))
    run = as_run(tmp_path / "run", Model.from_spec(about, model.network), recipe, "example:digits")
    assert {"ho2022", "dormand1980"} <= keys(cite(str(run.path)))
    record = run.read_record(run.recipe)
    private = {"epsilon": 1.0, "delta": 1e-5, "n": 100, "sigma": 1.0, "clip": 1.0, "batch": 10}
    found = {**record["provenance"], "private": {**private, "steps": 5, "adaptive": True}}
    tuned = replace(recipe, objective=AdjointMatching(path=model.spec.path, space=model.spec.space))
    said = {"base": "b", "rewards": ["ink"], "method": "adjoint-matching", "rank": 4}
    run.write_record(run.recipe, {**record, "provenance": found, "recipe": to_dict(tuned), "tuned": said})
    found = keys(cite(run))
    assert {"domingoenrich2024", "hu2021", "abadi2016", "andrew2021"} <= found
    assert "chen2024" in {paper.key for paper in cited_papers(Geodesic(Sphere(2)))}


def test_counts_that_chose_their_tables_cite_who_chose_and_who_adds_up(tmp_path):
    run = as_run(tmp_path / "run", *untrained("example:digits", "images"), "example:digits")
    record = run.read_record(run.recipe)
    private = {"epsilon": 1.0, "delta": 1e-5, "n": 100, "sigma": 1.0, "clip": 1.0, "batch": 10, "steps": 5}
    run.write_record(run.recipe, {**record, "provenance": {**record["provenance"], "private": private}})
    trained_alone = Ledger((PoissonSubsampledGaussian("training", 1.0, 0.1, 5),), 1e-5, 100)
    run.write_record(run.ledger, to_dict(trained_alone))
    accountants = {"koskela2020", "doroshenko2022", "mironov2017", "mironov2019"}
    trained = keys(cite(run))
    assert accountants <= trained
    assert not trained & {"mckenna2022", "mckenna2021", "bun2016"}
    chosen = Ledger((ZCdp("choice of tables", 0.1), PoissonSubsampledGaussian("training", 1.0, 0.1, 5)), 1e-5, 100)
    run.write_record(run.ledger, to_dict(chosen))
    assert {"mckenna2022", "bun2016", "abadi2016", *accountants} <= keys(cite(run))


def test_every_source_of_a_path_loss_objective_or_solver_is_known_in_full():
    for folder in ("paths", "losses", "simulate", "couplings", "privacy", "control", "networks"):
        for file in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(file.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef) and (text := ast.get_docstring(node)):
                    said = "Source:" in text
                    found = list(parse_citations(text))
                    assert found or not said or "Source: the" in text, f"{file}: nothing is found in {text!r}"
                    for paper in found:
                        assert dict(paper.fields).get("title") or paper.eprint, f"{file}: {paper}"


def test_a_bridge_cites_what_found_it_and_what_of_its_costs_and_members_has_a_source(tmp_path):
    def cited(name, **asked):
        run = Run(tmp_path / name)
        run.path.mkdir()
        said = BridgeRecord(populations=("a", "b"), prints=("", ""), times=(0.0, 1.0), noise=1.0, **asked)
        crowd = Populations(("a", "b"), feller.read("example:moons").modality, (), (), ("", ""))
        save_spec(run, begin(said, crowd, BridgeSolverConfig(), get_engine())[0])
        record = fit_record(data="a", recipe="bridge", size="", seed=0, held_out=0.0)
        run.write_record(
            run.recipe, {**record.content, "bridged": to_dict(said), "recipe": to_dict(BridgeSolverConfig())}
        )
        return keys(cite(run))

    plain = cited("plain", costs=("room.png",))
    assert "liu2024" in plain
    assert not plain & {"neklyudov2023", "chizat2018", "levin1998"}
    assert cited("more", costs=("valleys=a.las",), growth=1.0) == plain | {"levin1998", "chizat2018", "schiebinger2019"}
