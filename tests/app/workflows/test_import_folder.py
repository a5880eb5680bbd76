"""Folders of diffusers from import to export: samples, prompts, low-rank fine-tuning, and refusals."""

import json
import pathlib
import shutil

import diffusers
import numpy as np
import pandas as pd
import peft
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.models.model import load_model
from tests.app.asked import refuse, run
from tests.models.pretrained.tiny import make

REWARD = """
import torch

def red(images, given):
    sign = torch.tensor([1.0 if "red" in prompt else -1.0 for prompt in given["prompt"]])
    return sign * images[:, 0].float().mean((1, 2)) / 255
"""
QUICK = ("--steps", "2", "--objective.steps", "4", "--train.batch-size", "4", "--report", "none")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Folder with a pipeline of Stable Diffusion 3, the run of its import, and a file with a reward."""
    place = tmp_path_factory.mktemp("place")
    make("stable-diffusion-3").save_pretrained(place / "sd3")
    make("ddim").save_pretrained(place / "ddim")
    (place / "reward.py").write_text(REWARD)
    for name in ("sd3", "ddim"):
        run("import", place / name, "--out", place / f"run-{name}")
    return place


@pytest.fixture(scope="module")
def tuned(place: pathlib.Path) -> pathlib.Path:
    """Run that was fine-tuned on two prompts with LoRA."""
    out = place / "tuned"
    words = ("--reward", f"{place / 'reward.py'}:red", "--prompts", "a red cat", "a dog", "--guidance", 2)
    layers = ("--rank", 2, "--target-modules", "to_q", "to_out.0")
    run("tune", place / "run-sd3", *words, *layers, *QUICK, "--train.lr", 1e-2, "--out", out)
    return out


def test_samples_of_a_prompt(place: pathlib.Path) -> None:
    words = ("sample", place / "run-sd3", "-n", 2, "--given", "prompt=a cat", "--guidance", 2, "--nfe", 2)
    run(*words, "--out", place / "cats")
    assert pd.read_csv(place / "cats" / "captions.csv")["prompt"].tolist() == ["a cat"] * 2
    assert Image.open(place / "cats" / "00000.png").size == (16, 16)


def test_prompts_are_recorded_and_sampled(tuned: pathlib.Path) -> None:
    record = json.loads((tuned / "recipe.json").read_text())["tuned"]
    assert record["prompts"] == ["a red cat", "a dog"]
    assert record["target_modules"] == ["to_q", "to_out.0"]


def test_export_and_import_are_the_identity(place: pathlib.Path, tuned: pathlib.Path) -> None:
    run("export", tuned, "--to", "pretrained", "--out", place / "exported")
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(place / "exported")
    model = load_model(Run(tuned))
    for name, weight in pipeline.transformer.state_dict().items():
        assert torch.equal(weight, model.network.inner.state_dict()[name])
    base = load_model(Run(place / "run-sd3")).network.inner.state_dict()
    changed = {name for name, weight in model.network.inner.state_dict().items() if not torch.equal(weight, base[name])}
    assert changed
    assert all("to_q" in name or "to_out.0" in name for name in changed)
    run("import", place / "exported", "--out", place / "again")
    again = load_model(Run(place / "again"))
    assert again.spec.architecture == model.spec.architecture
    assert again.spec.sampling == model.spec.sampling
    for name, weight in again.network.state_dict().items():
        assert torch.equal(weight, model.network.state_dict()[name])
    for component in ("vae", "text_encoder_3"):
        ours, theirs = (
            next((folder / component).glob("*.safetensors")) for folder in (place / "exported", place / "sd3")
        )
        assert all(torch.equal(a, b) for a, b in zip(load_file(ours).values(), load_file(theirs).values(), strict=True))


def test_adapters_load_in_peft_and_diffusers(place: pathlib.Path, tuned: pathlib.Path) -> None:
    run("export", tuned, "--to", "peft", "--out", place / "adapter")
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(place / "sd3")
    pipeline.load_lora_weights(place / "adapter")
    plain = diffusers.SD3Transformer2DModel.from_pretrained(place / "sd3", subfolder="transformer")
    adapted = peft.PeftModel.from_pretrained(plain, place / "adapter")
    inputs = {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": torch.randn(2, 5, 32),
        "pooled_projections": torch.randn(2, 32),
        "timestep": torch.tensor([500.0, 200.0]),
    }
    with torch.no_grad():
        expected = load_model(Run(tuned)).network.inner(**inputs).sample
        for network in (pipeline.transformer, adapted):
            torch.testing.assert_close(network(**inputs).sample, expected, atol=1e-5, rtol=1e-5)


def test_pixels_are_observed_through_the_autoencoder(place: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place / "small.png")
    words = ("steer", place / "run-sd3", "--observe", place / "small.png", "--operator", "pool=2", "-n", 2)
    numbers = run(*words, "--method", "source", "--steps", 4, "--out", place / "solved")
    assert numbers["residual"] < numbers["residual_before"]
    refuse(*words, "--method", "pigdm", "--out", place / "unsolved", kind=UsageError)


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (("import", "sd3", "--predicts", "noise"), "predicts"),
        (("import", "sd3", "--modality", "points:2"), "modality"),
        (("import", "sd3", "--modality", "images:15x16"), "modality"),
        (("import", "sd3", "--classes", "cat", "dog"), "classes"),
        (("tune", "run-ddim", "--reward", "ink", "--prompts", "a cat", *QUICK), "prompts"),
        (("tune", "run-sd3", "--reward", "ink", "--prompts", "a", "--given", "prompt=b", *QUICK), "prompts"),
        (("tune", "run-sd3", "--reward", "ink", "--rank", 2, "--target-modules", "to_w", *QUICK), "target_modules"),
        (("tune", "run-sd3", "--reward", "ink", "--target-modules", "to_q", *QUICK), "rank"),
        (("export", "run-sd3", "--to", "peft"), "to"),
    ],
)
def test_wrong_words_are_refused(place: pathlib.Path, words: tuple[object, ...], argument: str) -> None:
    command, folder, *others = words
    refuse(command, place / str(folder), *others, "--out", place / "wrong", argument=argument)


def test_wrong_words_name_the_right_ones(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse("sample", place / "run-sd3", "--prompt", "a cat", argument="prompt", remedy="Use --given prompt=TEXT")
    refuse("sample", place / "run-ddim", "--prompt", "a cat", argument="prompt", remedy="Leave it out")
    refuse("sample", place / "run-ddim", "--nfe", 2000, argument="nfe", found="2,000")
    words = ("--reward", "ink", "--prompts", "a cat", *QUICK, "--out", place / "wrong")
    refuse("tune", place / "run-ddim", *words, argument="prompts", found="a model of images")
    run("tune", place / "run-sd3", "--reward", "ink", *QUICK, "--out", place / "unprompted")
    assert "--prompts" in capsys.readouterr().err
    run("import", place / "sd3", "--out", place / "hint")
    assert "--given prompt=" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing", "owner/name", "empty", "others", "file.safetensors"])
def test_import_takes_folders_of_save_pretrained_only(tmp_path: pathlib.Path, name: str) -> None:
    for folder in ("empty", "others"):
        (tmp_path / folder).mkdir()
    (tmp_path / "others" / "notes.txt").touch()
    (tmp_path / "file.safetensors").touch()
    place = str(tmp_path / name)
    refuse("import", place, "--out", tmp_path / "run", argument=None, file=place)


def test_changed_text_encoders_are_refused(place: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(place / "sd3", tmp_path / "sd3")
    run("import", tmp_path / "sd3", "--out", tmp_path / "run")
    config = tmp_path / "sd3" / "text_encoder" / "config.json"
    config.write_text(config.read_text() + "\n")
    words = ("sample", tmp_path / "run", "-n", 1, "--given", "prompt=a cat", "--out", tmp_path / "a")
    refuse(*words, kind=UsageError)
    shutil.rmtree(tmp_path / "sd3")
    refuse("export", tmp_path / "run", "--to", "pretrained", "--out", tmp_path / "b", kind=InputError)
