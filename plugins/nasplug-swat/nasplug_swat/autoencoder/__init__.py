"""The network autoencoder: networks as matrices, the model, its files, and how it is trained."""

from __future__ import annotations

from nasplug_swat.autoencoder.checkpoints import CURVE
from nasplug_swat.autoencoder.files import load, read, save, shipped
from nasplug_swat.autoencoder.losses import functional_error, losses, scores
from nasplug_swat.autoencoder.matrices import Matrices, arrange, deepen, pack, pad, unpack, used
from nasplug_swat.autoencoder.model import (
    SIZES,
    Autoencoder,
    Decoded,
    Size,
    decode,
    encode,
    fresh,
    latents,
    networks_of,
    normalised,
)
from nasplug_swat.autoencoder.pictures import plane
from nasplug_swat.autoencoder.pool import Pool, Trained, gather
from nasplug_swat.autoencoder.sampling import Sampling, draw, draw_ends
from nasplug_swat.autoencoder.settings import Training
from nasplug_swat.autoencoder.space import PAPER, Space, kinds, layout
from nasplug_swat.autoencoder.training import CURVE_PICTURE, RESULT, Progress, train

__all__ = [
    "CURVE",
    "CURVE_PICTURE",
    "PAPER",
    "RESULT",
    "SIZES",
    "Autoencoder",
    "Decoded",
    "Matrices",
    "Pool",
    "Progress",
    "Sampling",
    "Size",
    "Space",
    "Trained",
    "Training",
    "arrange",
    "decode",
    "deepen",
    "draw",
    "draw_ends",
    "encode",
    "fresh",
    "functional_error",
    "gather",
    "kinds",
    "latents",
    "layout",
    "load",
    "losses",
    "networks_of",
    "normalised",
    "pack",
    "pad",
    "plane",
    "read",
    "save",
    "scores",
    "shipped",
    "train",
    "unpack",
    "used",
]
