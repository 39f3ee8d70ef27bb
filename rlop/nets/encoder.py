"""Encoders of images for agents whose other networks read vectors, and the shift of images."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from rlop.config.schema import Count, Index, NonNegative, Sweep, option, options
from rlop.nets.qnetwork import check_shape, make_torso, preprocess
from rlop.runs import SweptOptions
from rlop.types import Spec


@options
class ImageOptions(SweptOptions):
    """Options of the encoder that makes vectors of images, for critics and policy alike."""

    swept: ClassVar[tuple[str, ...]] = ("dr3",)

    encoder: Literal["drq", "nature", "impala", "minatar"] = option(
        "drq", "convolutional network of the encoder"
    )
    width: Count = option(50, "numbers that the encoder makes of an image")
    random_shift: Index = option(
        0, "largest shift of an image in pixels, drawn in every update; DrQ uses 4"
    )
    dr3: Sweep[NonNegative] = option(
        0.0, "weight of DR3 on the encoder's features, in the encoder's loss"
    )

    @property
    def height_axis(self) -> int:
        """Axis of the height of images `[R, B, ...]`, which the width follows."""
        return 2 if self.encoder == "minatar" else 3


class Encoder(nn.Module):
    """Images `[R, B, *obs_shape]` to vectors `[R, B, width]`, for R runs.

    Args:
        spec: of the data set.
        options: kind and width.
        runs: R.
    Raises:
        InputError: for images that the network cannot read.
    """

    def __init__(self, spec: Spec, options: ImageOptions, runs: int) -> None:
        super().__init__()
        check_shape(options.encoder, spec.obs_shape, "images.encoder")
        self.torso = make_torso(spec, runs, options.encoder, (options.width,), "relu")

    def forward(self, obs: Tensor) -> Tensor:
        """Map images to vectors."""
        return self.torso(preprocess(obs, next(self.parameters()).dtype))


def random_shift(images: Tensor, uniform: Tensor, pad: int, height_axis: int = 3) -> Tensor:
    """Shift every image by at most `pad` pixels along each axis, repeating its border.

    This crops, at a random place, the image with `pad` replicated pixels on each side. All channels
    of an image are shifted alike.

    Args:
        images: `[R, B, C, H, W]`, or `[R, B, H, W, C]`.
        uniform: random numbers in [0, 1), `[R, B, 2]`: the shifts along height and width.
        pad: largest shift.
        height_axis: axis of H, which W follows.
    Returns:
        Shaped like `images`, of their dtype.
    Reference: Yarats, Kostrikov, Fergus, "Image Augmentation Is All You Need", ICLR 2021,
        arXiv:2004.13649, section 3.1.
    """
    shifts = (uniform * (2 * pad + 1)).long().clamp_max(2 * pad) - pad  # [R, B, 2]
    for axis, shift in zip((height_axis, height_axis + 1), shifts.unbind(-1)):
        size = images.shape[axis]
        place = torch.arange(size, device=images.device) + shift.unsqueeze(-1)
        place = place.clamp(0, size - 1)  # [R, B, size]

        shape = [*images.shape[:2], 1, 1, 1]
        shape[axis] = size
        images = images.gather(axis, place.view(shape).expand_as(images))
    return images
