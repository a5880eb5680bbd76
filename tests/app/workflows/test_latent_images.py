"""Flows of the latents of images: fits, resumed and shared autoencoders, and every command."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import torch

import feller
from feller.app.commands.flag_types import LATENT
from feller.app.workflows.fitting.image_latents import latent_batches
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.data.loading.dataset_reader import read
from feller.models.model import load_model
from feller.networks.image.latent_pixels import AsLatents
from tests.app.asked import refuse, run
from tests.errors import refuses

DATA = "example:digits"
TINY = ("--size", "tiny", "--train.warmup", 1)
LEARN = ("--autoencoder.steps", 6, *TINY)


def tensors(path: pathlib.Path) -> dict[str, torch.Tensor]:
    return load_tensors(path)[0]


def same(a: pathlib.Path, b: pathlib.Path) -> bool:
    first, second = tensors(a), tensors(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a latent flow of labelled images."""
    out = tmp_path_factory.mktemp("latent") / "run"
    run("fit", DATA, "--latent", "--steps", 6, *LEARN, "--report", "none", "--out", out)
    return out


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return the run of an autoencoder."""
    out = tmp_path_factory.mktemp("autoencoder") / "run"
    words = ("fit", DATA, "--recipe", "image-autoencoder", *TINY, "--steps", 150, "--report", "quick", "--out", out)
    numbers = run(*words)
    assert numbers["psnr"] > numbers["psnr_shrunk"]
    assert numbers["fd_cnn_reconstructed"] >= 0
    assert numbers["compared_with"] == "held-out data"
    return out


def test_record_and_sampling(fitted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    record = json.loads((fitted / "recipe.json").read_text())
    assert (record["config"]["latent"], record["provenance"]["recipe"]) == (LATENT, "latent-images")
    model = load_model(fitted)
    code, aux = model.spec.modality.code, tensors(Run(fitted).aux_weights("autoencoder"))
    assert isinstance(code, AsLatents)
    assert aux.keys() == code.network.state_dict().keys()  # no discriminator
    assert model.spec.space.shape == code.network.latent_shape == (4, 4, 4)
    words = ("sample", fitted, "-n", 5, "--nfe", 4, "--given", "label=7", "--guidance", 2)
    run(*words, "--out", tmp_path / "a.npz")
    images = np.load(tmp_path / "a.npz")["samples"]
    assert images.shape == (5, 8, 8)
    assert images.max() <= 16
    whole, alone = (model.sample(n, given={"label": 7}, guidance=2.0, nfe=4, rng=Rng(0)).values for n in (5, 2))
    assert (whole[:2].int() - alone.int()).abs().max() <= 1  # independent of the batch, up to rounding
    with refuses(UsageError, argument="log_prob"):
        model.log_prob(read(DATA).subset(torch.arange(2)))


@pytest.mark.slow
def test_report_measures_pixels(fitted: pathlib.Path) -> None:
    numbers = run("evaluate", fitted, "-n", 60)
    assert not {"nll", "bits_per_dimension"} & numbers.keys()
    assert numbers["reconstruction_psnr"] > 0
    assert numbers["fd_cnn_reconstructed"] > numbers["fd_cnn_floor"]
    assert "PSNR of reconstructions" in (fitted / "report.html").read_text()
    pixels = load_model(fitted).spec.modality.for_metrics(read(DATA)).modality
    assert type(pixels.code).__name__ == "AsNumbers"


@pytest.mark.slow
def test_resumed_fit_is_bit_identical(fitted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "run"
    run("fit", DATA, "--latent", "--steps", 3, *LEARN, "--report", "none", "--out", out)
    run("fit", "--resume", "--out", out, "--steps", 6, "--report", "none")
    assert same(out / "autoencoder.safetensors", fitted / "autoencoder.safetensors")
    # The learning rate of three steps decays, so the runs differ; resumed twice from one state they agree.
    again = tmp_path / "again"
    run("fit", DATA, "--latent", "--steps", 3, *LEARN, "--report", "none", "--out", again)
    run("fit", "--resume", "--out", again, "--steps", 6, "--report", "none")
    assert same(out / "weights.safetensors", again / "weights.safetensors")


@pytest.mark.slow
def test_steering_and_tuning_decode_images(fitted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    words = ("steer", fitted, "--reward", "ink", "-n", 2, "--steps", 2, "--out", tmp_path / "a.npz")
    assert run(*words)["n"] == 2
    assert np.load(tmp_path / "a.npz")["samples"].shape == (2, 8, 8)
    tuned = tmp_path / "tuned"
    run("tune", fitted, "--reward", "ink", "--steps", 1, "--train.batch-size", 4, "--report", "none", "--out", tuned)
    assert load_model(tuned).sample(2, nfe=2).numpy().shape == (2, 8, 8)
    observe = tmp_path / "observed.npy"
    np.save(observe, np.zeros((1, 1, 4, 4)))
    refuse("steer", fitted, "--observe", observe, "--operator", "pool=2", "--out", tmp_path / "b.npz")


@pytest.mark.slow
def test_export_has_a_decoder(fitted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run("export", fitted, "--to", "torch-export", "--out", tmp_path / "flow.pt2")
    record = json.loads((tmp_path / "flow.pt2.json").read_text())
    decoder = torch.export.load(tmp_path / record["decoder"]["file"]).module()
    model, x = load_model(fitted), Rng(1).stream("x").normal((3, 4, 4, 4))
    levels = record["scaling"]["levels"]
    values = decoder(x)[0].clamp(0, levels).round().to(torch.uint8)
    assert torch.equal(values, model.spec.modality.decode(x))


@pytest.mark.slow
def test_autoencoder_of_another_run(autoencoder: pathlib.Path, fitted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    flow, second = tmp_path / "flow", tmp_path / "second"
    run("fit", DATA, "--latent", autoencoder, "--steps", 2, *TINY, "--report", "none", "--out", flow)
    feller.fit(DATA, latent=flow, steps=2, size="tiny", report=False, out=str(second), fields={"autoencoder.steps": 1})
    theirs = tensors(autoencoder / "average.safetensors")
    for folder in (flow, second):
        ours = tensors(folder / "autoencoder.safetensors")
        assert all(torch.equal(theirs[f"autoencoder.{k}"], v) for k, v in ours.items() if not k.startswith("latent_"))
        assert ours["latent_scale"].min() > 0
        assert not torch.equal(ours["latent_scale"], torch.ones(4))
    for name in ("autoencoder", "state", "weights", "average"):  # as if the fit had been killed before it was copied
        (flow / f"{name}.safetensors").unlink()
    run("fit", "--resume", "--out", flow, "--steps", 3, "--report", "none")
    assert same(flow / "autoencoder.safetensors", second / "autoencoder.safetensors")
    shutil.copy(fitted / "autoencoder.safetensors", flow / "autoencoder.safetensors")
    error = refuse("sample", flow, "-n", 1, kind=InputError)
    assert pathlib.Path(error.file).name == "autoencoder.safetensors"


@pytest.mark.slow
def test_start_model_and_reflow_keep_the_autoencoder(fitted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for recipe in ("auto", "reflow"):
        out = tmp_path / recipe
        few = ("--reflow-pairs", 4) if recipe == "reflow" else ()
        words = ("--recipe", recipe, "--start-from", fitted, "--steps", 2, *TINY, *few, "--report", "none")
        run("fit", DATA, *words, "--out", out)
        assert same(out / "autoencoder.safetensors", fitted / "autoencoder.safetensors")
        assert load_model(out).sample(1, nfe=2).numpy().shape == (1, 8, 8)


def test_latents_are_sampled_anew_at_each_step() -> None:
    moments = Rng(3).stream("moments").normal((40, 2, 4, 3, 3))

    def load(step: int, rows: slice) -> dict[str, torch.Tensor]:
        return {"x_1": moments[rows]}

    first, second = (latent_batches(load, 40, Rng(0))(i, slice(None))["x_1"] for i in range(2))
    mean, log_variance = moments.chunk(2, 2)
    z = (first[:, None] - mean) / (log_variance / 2).exp()  # for both copies; that of the drawn one is standard normal
    squares = z.square().flatten(2).mean(2).min(1).values
    assert 0.8 < squares.mean() < 1.05
    assert not torch.equal(first, second)
    part = latent_batches(load, 40, Rng(0))(0, slice(7, 20))["x_1"]
    assert torch.equal(part, first[7:20])
    moments = torch.cat([mean, torch.full_like(mean, -torch.inf)], 2)[:, :1]
    torch.testing.assert_close(latent_batches(load, 40, Rng(0))(0, slice(None))["x_1"], mean[:, 0])


def test_bad_input(fitted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = ("--steps", 2, *TINY, "--out", tmp_path / "run")
    refuse("fit", "example:moons", *out, "--latent", argument="latent")
    for recipe in ("levels-mask", "images", "image-autoencoder"):
        refuse("fit", DATA, "--latent", "--recipe", recipe, *out, argument="recipe")
    refuse("fit", DATA, "--latent", "--train.augmentation.flip", 0.5, *out, argument="train.augmentation")
    refuse("fit", DATA, "--latent", "--epsilon", 3, "--unsafe-seed", 1, *out)
    refuse("fit", DATA, "--latent", tmp_path / "none", *out, argument="latent")
    refuse("fit", DATA, "--start-from", fitted, "--latent", *out, argument="latent")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_runs_without_a_matching_autoencoder(autoencoder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = ("--steps", 2, *TINY, "--out", tmp_path / "run")
    refuse("fit", DATA, "--start-from", autoencoder, *out, argument="start_from")
    refuse("sample", autoencoder, "-n", 1)
    np.savez(tmp_path / "wide.npz", samples=np.arange(20 * 8 * 12, dtype=np.uint8).reshape(20, 8, 12))
    refuse("fit", tmp_path / "wide.npz", "--latent", autoencoder, *out, file=str(autoencoder))
    plain = tmp_path / "plain"
    run("fit", DATA, "--steps", 1, *TINY, "--report", "none", "--out", plain)
    refuse("fit", DATA, "--latent", plain, *out, file=str(plain))
    assert not (tmp_path / "run").exists()
