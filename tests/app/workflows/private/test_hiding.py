"""The noise that hides rows comes from a key that nobody else has."""

from dataclasses import replace

from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.private.private_training import gradient_noise
from feller.privacy.noise.grid_noise import SecureNoise, SeededNoise

PLANNED = Guarantee(epsilon=1.0, delta=1e-5, n=100, sigma=1.0, clip=1.0, batch=10, steps=3)


def test_it_is_secret_unless_it_is_asked_to_be_repeatable() -> None:
    """Whatever several processes have agreed upon: who heard that could take such noise away again."""
    assert type(gradient_noise(PLANNED, 0)) is SecureNoise
    assert gradient_noise(PLANNED, 0).random_bytes(32) != gradient_noise(PLANNED, 0).random_bytes(32)
    assert type(gradient_noise(replace(PLANNED, unsafe_seed=1), 0)) is SeededNoise
