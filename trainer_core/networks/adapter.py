"""An adapted layer: its key in the file, what it computes and what of it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from .base import Algorithm, Layer


@dataclass(frozen=True, eq=False)
class Adapter:
    """One adapted layer: its key in the file, its parameters and the tensors that stand in for them in the forward.

    rate: the factor of its component's learning rate. `seed` is a hash of the key, so that no two layers draw alike.
    `active` is filled by `Network.bind`."""

    key: str
    component: str
    algorithm: Algorithm
    layer: Layer
    parameters: Mapping[str, nn.Parameter]
    seed: int
    rate: float = 1.0
    active: dict[str, Tensor] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The name of those that learn alike: the component's, with the factor where it is not 1."""
        return self.component if self.rate == 1 else f"{self.component} x{self.rate:g}"


@dataclass(frozen=True)
class LearningGroup:
    """Parameters that share a learning rate: `rate` times that of their component. Named as in the file."""

    name: str
    component: str
    rate: float
    parameters: Mapping[str, nn.Parameter]


def named_parameters(adapters: Iterable[Adapter]) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter by its tensor's key in the file."""
    return (
        (f"{adapter.key}.{suffix}", parameter)
        for adapter in adapters
        for suffix, parameter in adapter.parameters.items()
    )
