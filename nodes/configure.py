"""ConfigureNetwork and ConfigureOptimizer: what is trained, and how it is moved."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..trainer_core.config import NetworkConfig, OptimizerConfig
from ..trainer_core.networks import ALGORITHMS
from ..trainer_core.optim import OPTIMIZERS, SCHEDULES
from .errors import plainly
from .inputs import inputs_of, settings_from
from .wires import CATEGORY, Network, Optimizer


class ConfigureNetwork(io.ComfyNode):
    """The adapter, its size, and the parts of the model it is put on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_ConfigureNetwork",
            display_name="Configure Network (LazyLoRA)",
            category=CATEGORY,
            description="The adapter, its size, and the parts of the model it is put on. Without it: LoRA of rank 16.",
            inputs=inputs_of(NetworkConfig, choices={"algo": ALGORITHMS.names()}),
            outputs=[Network.Output("network", display_name="network", tooltip="For TrainLoRA.")],
        )

    @classmethod
    @plainly
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(settings_from(NetworkConfig, values))


class ConfigureOptimizer(io.ComfyNode):
    """Optimizer, learning rates and their schedule."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_ConfigureOptimizer",
            display_name="Configure Optimizer (LazyLoRA)",
            category=CATEGORY,
            description="Optimizer, learning rates and their schedule. Without it: Prodigy, which finds its own rate.",
            inputs=inputs_of(
                OptimizerConfig, choices={"optimizer": OPTIMIZERS.names(), "lr_scheduler": SCHEDULES.names()}
            ),
            outputs=[Optimizer.Output("optimizer_out", display_name="optimizer", tooltip="For TrainLoRA.")],
        )

    @classmethod
    @plainly
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(settings_from(OptimizerConfig, values))
