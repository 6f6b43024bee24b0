"""The types on our wires. Their names are permanent: saved graphs hold them."""

from __future__ import annotations

from comfy_api.latest import io

Dataset = io.Custom("LAZYLORA_DATASET")  # a trainer_core DatasetConfig
Network = io.Custom("LAZYLORA_NETWORK")  # a trainer_core NetworkConfig
Optimizer = io.Custom("LAZYLORA_OPTIMIZER")  # a trainer_core OptimizerConfig
Recipe = io.Custom("LAZYLORA_RECIPE")  # settings as nested values, for TrainConfig; perhaps only some
Run = io.Custom("LAZYLORA_RUN")  # a trainer_core TrainedRun
XY = io.Custom("XY")  # the Efficiency nodes' axis

CATEGORY = "LazyLoRA"
