"""Rotations by the Cayley transform, of which OFT and BOFT are made (Qiu et al. 2023, arXiv:2306.07280)."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCKS = "oft_blocks"


def skew(blocks: Tensor, limit: float) -> Tensor:
    """Q = B - Bᵀ, shrunk as a whole to the norm `limit` where that is above 0 and Q is longer (COFT).

    blocks: [..., b, b] → [..., b, b] in fp32 or wider."""
    wide = blocks.to(torch.promote_types(blocks.dtype, torch.float32))
    return (wide - wide.mT) * _shrinking(wide, limit)


def limited(blocks: Tensor, limit: float) -> Tensor:
    """Blocks that need no limit any more and rotate the same: what a file holds, as loaders disagree about limits."""
    return blocks * _shrinking(blocks, limit).to(blocks.dtype)


def rotation_less_identity(q: Tensor) -> Tensor:
    """R - I for R = (I + Q)(I - Q)⁻¹, without the cancellation of small angles: (I - Q)⁻¹ · 2Q.

    q: [..., b, b], skew-symmetric, fp32 or wider. The solve asks for no error checks: I - Q is never singular, and to
    look would wait for the device."""
    identity = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
    return torch.linalg.solve_ex(identity - q, 2 * q)[0]


def _shrinking(blocks: Tensor, limit: float) -> Tensor:
    """min(1, limit / ‖Q‖) as a 0-dim tensor on the device; 1 without a limit."""
    if not limit:
        return blocks.new_ones(())
    return (limit / (torch.linalg.vector_norm(blocks - blocks.mT) + 1e-8)).clamp(max=1)
