"""Every setting of a training run, as frozen dataclasses, a section a file: kohya's names where people know them."""

from __future__ import annotations

from .dataset import TAG_OPERATIONS, DatasetConfig, TagEdit
from .layers import layered
from .loss import PREDICTION_TYPES, LossConfig
from .network import NetworkConfig, trains_text_encoder
from .optimizer import OptimizerConfig, chosen_optimizer, group_learning_rate, learning_rates
from .run import PRECISIONS, TrainConfig, text_chunks
from .sample import SampleConfig

__all__ = [
    "PRECISIONS",
    "PREDICTION_TYPES",
    "TAG_OPERATIONS",
    "DatasetConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "SampleConfig",
    "TagEdit",
    "TrainConfig",
    "chosen_optimizer",
    "group_learning_rate",
    "layered",
    "learning_rates",
    "text_chunks",
    "trains_text_encoder",
]
