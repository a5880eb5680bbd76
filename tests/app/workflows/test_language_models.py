"""Language models in folders: imported, fine-tuned on texts, sampled and exported."""

import json
import pathlib

import peft
import pytest
import torch

from feller.models.model import load_model
from feller.models.pretrained.transformers_folder import load_language_model
from tests.app.asked import refuse, run
from tests.models.pretrained.tiny_text import SENTENCES, make, save

pytestmark = pytest.mark.usefixtures("here")
TRAINING = ("--steps", 60, "--train.lr", 0.02, "--report", "none")


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_language_models_are_fine_tuned_from_folder_to_folder(name: str) -> None:
    folder = save(name, pathlib.Path("folder"))
    pathlib.Path("texts.txt").write_text("\n".join(SENTENCES * 12))
    pathlib.Path("others.txt").write_text("\n".join(SENTENCES[:2] * 12))
    run("import", folder, "--data", "others.txt", "--out", "base")
    assert run("evaluate", "base", "--data", "texts.txt", "-n", 4)["bits_per_token"] > 0
    before = load_model("base").nll(SENTENCES).mean()
    run("fit", "texts.txt", "--start-from", "base", *TRAINING, "--out", "tuned")
    model = load_model("tuned")
    assert model.nll(SENTENCES).mean() < 0.5 * before
    assert model.spec.architecture == load_model("base").spec.architecture
    run("sample", "tuned", "-n", 4, "--template", "the cat", "--out", "samples.jsonl")
    assert pathlib.Path("samples.jsonl").read_text().count("the cat") == 4
    run("export", "tuned", "--to", "pretrained", "--out", "exported")
    assert (
        load_language_model(pathlib.Path("exported")).nll(SENTENCES[:2]) - model.nll(SENTENCES[:2])
    ).abs().max() < 1e-4


def test_fine_tuning_is_gentle_and_of_the_same_family() -> None:
    save("gpt2", pathlib.Path("folder"))
    pathlib.Path("texts.txt").write_text("\n".join(SENTENCES * 12))
    run("import", "folder", "--out", "base")
    run("fit", "texts.txt", "--start-from", "base", "--steps", 1, "--report", "none", "--out", "tuned")
    recipe = json.loads((pathlib.Path("tuned") / "recipe.json").read_text())
    assert recipe["provenance"]["recipe"] == "text-autoregressive"
    assert recipe["recipe"]["train"]["lr"] == 1e-4


@pytest.mark.parametrize(("name", "modules"), [("gpt2", ("c_attn", "c_fc", "wpe")), ("llama", ("q_proj", "lm_head"))])
def test_low_rank_updates_load_in_peft(name: str, modules: tuple[str, ...]) -> None:
    folder = save(name, pathlib.Path("folder"))
    pathlib.Path("texts.txt").write_text("\n".join(SENTENCES * 12))
    run("import", folder, "--out", "base")
    words = (
        "fit",
        "texts.txt",
        "--start-from",
        "base",
        "--rank",
        2,
        "--steps",
        5,
        "--train.lr",
        0.05,
        "--report",
        "none",
    )
    run(*words, "--target-modules", *modules, "--out", "tuned")
    run("export", "tuned", "--to", "peft", "--out", "adapter")
    run("export", "tuned", "--to", "pretrained", "--out", "merged")
    package, tokenizer = make(name)
    ids = tokenizer(SENTENCES[0], return_tensors="pt").input_ids
    before = package(input_ids=ids).logits
    adapted = peft.PeftModel.from_pretrained(package, "adapter").eval()
    merged = type(package).from_pretrained("merged", local_files_only=True).eval()
    torch.testing.assert_close(adapted(input_ids=ids).logits, merged(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
    assert (merged(input_ids=ids).logits - before).abs().max() > 0.1
    if name == "gpt2":
        run(*words, "--out", "all")
        refuse("export", "all", "--to", "peft", "--out", "shared")
