"""Adapters: which layers get one, what it computes, and how it sits on a model that a host has loaded."""

from __future__ import annotations

from . import boft, dylora, full, glora, ia3, locon, loha, lokr, lora, norm, oft  # noqa: F401  (each registers itself)
from .base import ALGORITHMS
from .network import Network, build_network

__all__ = ["ALGORITHMS", "Network", "build_network"]
