"""Autoencoder of images: shapes, padding, latents, and their statistics."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.networks import FSQ
from feller.networks.image.autoencoder import ConvAutoencoder, sample_latents
from feller.networks.image.latent_bottlenecks import GaussianLatents, LatentBottleneck, QuantizedLatents
from feller.networks.image.latent_pixels import AsLatents
from feller.networks.image.patch_discriminator import AdversarialAutoencoder
from tests.errors import refuses
from tests.networks.checks import check_learning, check_record, check_seed, perturb_weights

BOTTLENECKS = [GaussianLatents(3), QuantizedLatents(FSQ((5, 4, 8)))]
SHAPE = (1, 10, 15)
X = Rng(0).stream("x").uniform((4, *SHAPE), torch.float64)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
@pytest.mark.parametrize(("factor", "grid"), [(2, (5, 8)), (4, (3, 4))])
def test_sides_are_padded_and_cropped(bottleneck: LatentBottleneck, factor: int, grid: tuple[int, int]) -> None:
    config = ConvAutoencoder(factor, 16, 1, bottleneck)
    network = config.build(SHAPE, {}, Rng(0)).double()
    output = network(X, torch.zeros(4), {})
    assert torch.equal(output["state"], torch.zeros_like(X))
    assert network.latent_shape == (3, *grid)
    perturb_weights(network)
    moments = network.moments(X)
    assert moments.shape == (4, 6, *grid)
    image = network.decode(moments[:, :3])
    assert image.shape == X.shape
    torch.testing.assert_close(image[1:3], network.decode(network.moments(X[1:3])[:, :3]))
    check_record(config)
    check_record(AdversarialAutoencoder(config))
    check_seed(lambda seed: config.build(SHAPE, {}, Rng(seed)))


def test_all_weights_learn() -> None:
    network = AdversarialAutoencoder(ConvAutoencoder(4, 16)).build(SHAPE, {}, Rng(0)).double()
    cond = {"noise": torch.ones(4, *network.autoencoder.latent_shape), "adversarial": torch.zeros(4)}
    check_learning(network, lambda: sum(leaf.square().sum() for leaf in network(X, torch.zeros(4), cond).values()))


def test_penalty_is_the_divergence_from_the_standard_normal() -> None:
    mean, log_variance = Rng(1).stream("moments").normal((2, 5, 3, 2, 2), torch.float64)
    penalty = GaussianLatents(3, 0.7).penalty(torch.cat([mean, log_variance], 1), 50)
    kl = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(penalty, 0.7 * kl / 50)


def test_quantised_latents_snap_to_their_levels() -> None:
    quantizer = FSQ((5, 4, 8))
    vectors = quantizer.build().decode(torch.arange(160)).double()
    latents = vectors.mT.reshape(1, 3, 16, 10)
    noise = 0.12 * (
        2 * Rng(0).stream("noise").uniform(latents.shape, torch.float64) - 1
    )  # levels differ by 1/4 at least
    bottleneck = QuantizedLatents(quantizer)
    torch.testing.assert_close(bottleneck.snap(latents + noise), latents)
    outside = bottleneck.snap(torch.full((1, 3, 1, 1), 9.0))
    torch.testing.assert_close(outside.flatten(), torch.tensor([1.0, 0.5, 0.75]))
    features = Rng(0).stream("features").normal((2, 3, 4, 4), torch.float64)
    moments = bottleneck.moments(features)
    codes = quantizer.build().encode(features.flatten(2).mT)
    torch.testing.assert_close(moments[:, :3].flatten(2).mT, quantizer.build().decode(codes).double())
    noisy = sample_latents(moments, torch.ones_like(features))
    torch.testing.assert_close(noisy, moments[:, :3])


def test_standardised_latents_have_mean_zero_and_variance_one() -> None:
    code = AsLatents(ConvAutoencoder(2, 16), (1, 8, 8))
    perturb_weights(code.network).float()
    values = (255 * Rng(2).stream("x").uniform((50, 1, 8, 8))).to(torch.uint8)
    code.set_statistics(values, 255)
    mean, log_variance = (half.transpose(0, 1).flatten(1) for half in code.moments(values, 255).chunk(2, 1))
    torch.testing.assert_close(mean.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(mean.var(1, correction=0) + log_variance.exp().mean(1), torch.ones(4))
    state = code.encode(values, 255)
    assert torch.equal(code.encode(state, 255), state)  # cached moments
    decoded = code.decode(state, 255)
    soft = code.decode_soft(state, 255)
    assert torch.equal(decoded, soft.clamp(0, 255).round().to(torch.uint8))
    assert code.log_scale((1, 8, 8), 255) is None


def test_wrong_settings() -> None:
    for factor, width in ((3, 16), (1, 16), (2, 8)):
        with refuses(UsageError):
            ConvAutoencoder(factor, width)
    with refuses(UsageError):
        GaussianLatents(0)
    with refuses(InputError):
        AsLatents(ConvAutoencoder(2, 16), (1, 8, 8)).space((1, 8, 9), 255)
    with refuses(UsageError):
        AdversarialAutoencoder(halvings=0)
