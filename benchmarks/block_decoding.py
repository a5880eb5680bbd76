"""Tokens per second of block diffusion with a KV cache, and of evaluations of the whole text.

Run `python -m benchmarks.block_decoding`. The networks have random weights, which do not change the time.
"""

import argparse
import time
from dataclasses import dataclass

import torch

from feller.core.rng import Rng
from feller.models.families.block_diffusion_model import BlockDiffusionModel
from feller.models.families.model_family import ModelFamily, SampleRequest
from feller.models.families.path_process import PathProcess
from feller.networks import AttentionPattern, BlockAttention, FullAttention, LanguageTransformer
from feller.paths import Mixture
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource, Tokens

VOCAB_SIZE = 28


@dataclass(frozen=True)
class Setting:
    """Size of the network and of the samples."""

    length: int = 512
    width: int = 128
    depth: int = 2
    heads: int = 4
    texts: int = 8
    evaluations: int = 512
    """Network evaluations per text: 512 evaluations of 512 tokens reveal one token at a time on average."""


def seconds_per_evaluation(
    setting: Setting, attention: AttentionPattern, family: ModelFamily, evaluations: int
) -> float:
    """Return the seconds per network evaluation of a batch of texts."""
    config = LanguageTransformer(VOCAB_SIZE, attention, width=setting.width, depth=setting.depth, heads=setting.heads)
    network = config.build((setting.length,), {}, Rng(0)).eval()
    request = SampleRequest(
        n=setting.texts,
        space=Tokens(VOCAB_SIZE, (setting.length,), MaskSource()),
        sampling=SamplerConfig("euler", evaluations),
    )
    start = time.perf_counter()
    family.sample(network, request, Rng(0))
    return (time.perf_counter() - start) / evaluations


def main() -> None:
    """Print the tokens per second of whole texts and of blocks of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=2)
    arguments = parser.parse_args()
    setting = Setting(length=arguments.length, width=arguments.width, depth=arguments.depth)

    def rate(seconds: float) -> float:
        return setting.texts * setting.length / (seconds * setting.evaluations)

    whole = rate(seconds_per_evaluation(setting, FullAttention(), PathProcess(Mixture(source=MaskSource())), 32))
    print(f"{setting}; {torch.get_num_threads()} threads; {setting.evaluations} evaluations per text")
    print(f"whole text: {whole:.0f} tokens per second")
    for size in (4, 8, 16, 32, 64):
        seconds = seconds_per_evaluation(setting, BlockAttention(size), BlockDiffusionModel(), setting.evaluations)
        print(f"blocks of {size}: {rate(seconds):.0f} tokens per second, {rate(seconds) / whole:.1f} times as many")


if __name__ == "__main__":
    main()
