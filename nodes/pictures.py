"""PIL pictures to ComfyUI's IMAGE and back: [B, H, W, 3], fp32, 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_image(pictures: Sequence[Image.Image]) -> Tensor:
    """[B, H, W, 3] from pictures of one size."""
    pixels = [np.asarray(picture.convert("RGB"), dtype=np.float32) / 255 for picture in pictures]
    return torch.from_numpy(np.stack(pixels))


def to_pictures(image: Tensor) -> list[Image.Image]:
    """The batch's pictures, as ComfyUI itself saves them."""
    pixels = (255.0 * image.detach().cpu().numpy()).clip(0, 255).astype(np.uint8)
    return [Image.fromarray(each[..., :3]) for each in pixels]
