"""Sizes of networks of images, from half a million to 450 million weights, as U-Net and as diffusion transformer."""

import math
from dataclasses import dataclass, replace

from feller.networks.image.dit import DiT
from feller.networks.image.unet import UNet
from feller.training.augmentation import NUM_FEATURES, Augmentation
from feller.training.optimizer import TrainConfig

REFERENCE_SIDE = 64
"""Side in pixels of the images for which the networks of `IMAGE_SIZES` are laid out."""


@dataclass(frozen=True, kw_only=True)
class ImageSize:
    """Networks and training settings of one size, for images of 64 x 64 pixels."""

    unet: UNet
    dit: DiT
    max_sites: int
    """Maximum number of pixels of a level of the U-Net with attention, which is slow on a CPU."""
    max_patches: int
    """Maximum number of patches of the transformer; for larger images, patches grow."""
    limit: int
    """Maximum of the longer side in pixels to which data are reduced by default."""
    batch_size: int
    minutes: float
    """Training time in minutes."""
    unet_lr: float
    """Peak learning rate of the U-Net."""
    dit_lr: float
    """Peak learning rate of the transformer."""
    ema_decay: float = 0.9999
    gradient_checkpointing: bool = False

    def training(self, height: int, width: int, lr: float) -> TrainConfig:
        """Return the training settings for images of height x width pixels.

        Micro-batches have at most as many pixels as a batch of 64 x 64 pixels.
        """
        micro_batch = max(1, self.batch_size * REFERENCE_SIDE**2 // (height * width))
        return TrainConfig(
            batch_size=self.batch_size,
            micro_batch=micro_batch if micro_batch < self.batch_size else None,
            lr=lr,
            minutes=self.minutes,
            ema_decay=self.ema_decay,
            gradient_checkpointing=self.gradient_checkpointing,
            augmentation=Augmentation(flip=0.5, crop=0.2),
        )


IMAGE_SIZES = {
    "tiny": ImageSize(
        unet=UNet(channels=16, multipliers=(1, 2, 4, 4), blocks=1, heads=4),
        dit=DiT(width=96, depth=3, heads=4),
        max_sites=64,
        max_patches=256,
        limit=64,
        batch_size=64,
        minutes=1.0,
        unet_lr=3e-3,
        dit_lr=2e-3,
        ema_decay=0.999,
    ),
    "small": ImageSize(
        unet=UNet(channels=32, multipliers=(1, 2, 5, 5), blocks=1, heads=4),
        dit=DiT(width=160, depth=6, heads=4),
        max_sites=64,
        max_patches=256,
        limit=64,
        batch_size=64,
        minutes=10.0,
        unet_lr=2e-3,
        dit_lr=1e-3,
        ema_decay=0.999,
    ),
    "base": ImageSize(
        unet=UNet(channels=128, multipliers=(1, 2, 2, 3), blocks=2, heads=4, dropout=0.1),
        dit=DiT(width=384, depth=12, heads=6),
        max_sites=1024,
        max_patches=1024,
        limit=128,
        batch_size=128,
        minutes=120.0,
        unet_lr=5e-4,
        dit_lr=4e-4,
    ),
    "large": ImageSize(
        unet=UNet(channels=192, multipliers=(1, 2, 3, 4), blocks=3, heads=8, dropout=0.1),
        dit=DiT(width=768, depth=12, heads=12),
        max_sites=1024,
        max_patches=1024,
        limit=256,
        batch_size=256,
        minutes=1440.0,
        unet_lr=2e-4,
        dit_lr=2e-4,
        gradient_checkpointing=True,
    ),
    "xl": ImageSize(
        unet=UNet(channels=256, multipliers=(1, 2, 4, 5), blocks=4, heads=16, dropout=0.1),
        dit=DiT(width=1024, depth=24, heads=16),
        max_sites=1024,
        max_patches=1024,
        limit=512,
        batch_size=256,
        minutes=4320.0,
        unet_lr=1e-4,
        dit_lr=1e-4,
        gradient_checkpointing=True,
    ),
}
"""Each size by name; about 0.5, 3, 30, 130 and 450 million weights. The transformers of the last three are DiT-S, DiT-B
and DiT-L of Peebles and Xie 2023, arXiv 2212.09748."""
IMAGE_SIZE_NAMES = tuple(IMAGE_SIZES)


def sized_unet(height: int, width: int, size: str) -> UNet:
    """Return the U-Net of a size for images of height x width pixels.

    The longer side of the coarsest level has 4 to 8 pixels: smaller images have fewer levels, and larger images more
    levels at full width. Levels with few pixels have attention, except the finest.
    """
    settings = IMAGE_SIZES[size]
    multipliers = settings.unet.multipliers
    extra = (max(height, width) - 1).bit_length() - (REFERENCE_SIDE - 1).bit_length()  # levels more than for 64 pixels
    extra = extra + 1 if extra < 0 else extra  # 32 pixels have as many levels as 64
    levels = (1,) * extra + multipliers if extra >= 0 else multipliers[min(-extra, len(multipliers) - 1) :]
    sites = [math.prod(-(-side // 2**level) for side in (height, width)) for level in range(len(levels))]
    attention = tuple(level > 0 and count <= settings.max_sites for level, count in enumerate(sites))
    return replace(settings.unet, multipliers=levels, attention=attention, augmentation_features=NUM_FEATURES)


def sized_dit(height: int, width: int, size: str) -> DiT:
    """Return the diffusion transformer of a size for images of height x width pixels.

    It has the smallest patches of which there are at most as many as the size allows.
    """
    settings = IMAGE_SIZES[size]
    patch = settings.dit.patch
    while math.prod(-(-side // patch) for side in (height, width)) > settings.max_patches:
        patch *= 2
    return replace(settings.dit, patch=patch, augmentation_features=NUM_FEATURES)
