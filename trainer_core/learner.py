"""What learns: the adapters' parameters in one flat buffer, and the optimizer that moves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from .config import TrainConfig, chosen_optimizer, learning_rates
from .networks.max_norm import MaxNorm
from .networks.network import Network
from .optim.args import parse_optimizer_args
from .optim.ema import Ema
from .optim.flat import FlatBuffer, ParamGroup
from .optim.package_optimizer import PackageOptimizer
from .optim.packaged import build_optimizer
from .optim.shadow import Shadow


class Learner:
    """Adapters, optimizer and their gradients: `backward` as often as batches accumulate, then `step`.

    Nothing in a step waits for the device: a gradient that is not finite is replaced by zeros there, and its norm says
    so when it is read later."""

    def __init__(self, config: TrainConfig, network: Network, dtype: torch.dtype):
        """dtype: of the forward pass. Raises ConfigError for an unknown optimizer or option."""
        self._max_grad_norm = config.optimizer.max_grad_norm
        groups = network.groups()
        rates = learning_rates(config.optimizer, [(group.component, group.rate) for group in groups])
        self.buffer = FlatBuffer(
            [ParamGroup(group.name, group.parameters, lr) for group, lr in zip(groups, rates, strict=True)]
        )
        options = parse_optimizer_args(config.optimizer.optimizer_args)
        self.optimizer = build_optimizer(chosen_optimizer(config.optimizer), self.buffer, options)
        self.shadow = Shadow(self.buffer, dtype)
        if self.shadow.is_copy:
            network.bind(self.shadow.weights)
        self._ema = Ema(self.buffer.params, config.ema_decay) if config.ema_decay else None
        longest = config.network.scale_weight_norms
        self._max_norm = MaxNorm(network, longest) if longest else None
        self.is_between_steps = True

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to what has accumulated."""
        self.shadow.backward(loss)

    def step(self, lr_factor: float) -> Tensor:
        """Move the parameters by what has accumulated and forget it. Gives the gradient's norm, a 0-dim tensor that
        stays on the device: not finite when the step was made with zeros instead."""
        self.shadow.unscale()
        norm = self.buffer.grad_norm()
        if self._max_grad_norm:
            self.buffer.clip_grad_norm(self._max_grad_norm, norm)
        was_finite = self.buffer.zero_nonfinite_grads(norm)
        self.is_between_steps = False
        self.optimizer.step(lr_factor)
        if self._max_norm is not None:
            self._max_norm.apply()
        if self._ema is not None:
            self._ema.follow()
        self.shadow.refresh(was_finite)
        self.is_between_steps = True
        self.forget_gradients()
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The parameters as they are saved and previewed: their running average, where one is kept, or a schedule-free
        optimizer's. On exit they are again those that train, bit for bit."""
        average = self.optimizer.averaged() if self._ema is None else self._ema.average
        if average is None:
            yield
            return
        trained = self.buffer.params.clone()
        self._show(average)
        try:
            yield
        finally:
            self._show(trained)

    def forget_gradients(self) -> None:
        """Zero what has accumulated, in place."""
        self.buffer.zero_grads()

    def size(self) -> int:
        """Bytes on the device: parameters and their copy for the forward pass, gradients, optimizer state.

        About, before the first step of a package's optimizer, which makes its state only then."""
        kept = [*self.state_dict().values(), self.buffer.grads, *self.shadow.tensors()]
        awaited = self.optimizer.awaited_bytes() if isinstance(self.optimizer, PackageOptimizer) else 0
        return sum(tensor.nbytes for tensor in kept) + awaited

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and optimizer state, as flat tensors on the device."""
        return {
            "parameters": self.buffer.params,
            **{f"optimizer.{name}": value for name, value in self.optimizer.state_dict().items()},
            **{f"shadow.{name}": value for name, value in self.shadow.state_dict().items()},
            **{f"ema.{name}": value for name, value in (self._ema.state_dict() if self._ema else {}).items()},
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on, bit for bit, from where `state_dict` was taken."""
        self.buffer.params.copy_(state["parameters"])
        self.optimizer.load_state_dict(_below("optimizer.", state))
        self.shadow.load_state_dict(_below("shadow.", state))
        if self._ema is not None:
            self._ema.load_state_dict(_below("ema.", state))

    def _show(self, values: Tensor) -> None:
        self.buffer.params.copy_(values)
        self.shadow.copy_masters()


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
