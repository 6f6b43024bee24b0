"""Adapters: which layers get one, what it computes, and how it sits on a model that a host has loaded."""

from __future__ import annotations

from . import locon, lora  # noqa: F401  (each file registers its algorithm)
from .base import ALGORITHMS
from .network import Network, build_network

__all__ = ["ALGORITHMS", "Network", "build_network"]
