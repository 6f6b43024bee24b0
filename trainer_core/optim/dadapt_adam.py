"""D-Adapted Adam (Defazio & Mishchenko 2023, arXiv:2301.07733) over a flat buffer, as dadaptation 3.2 computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..settings import setting
from .base import OPTIMIZERS, check_betas, check_growth_rate, check_positive, check_state, read_options
from .blocks import blocks_of, largest_lr
from .flat import FlatBuffer, Group, Place
from .package_state import from_package, to_package
from .scalars import as_scalar, bias_correction, fp32_scalars


@dataclass(frozen=True)
class DAdaptAdamOptions:
    """dadaptation's options, names and defaults."""

    betas: tuple[float, float] = setting(
        (0.9, 0.999), help="Memory of the gradient and of its square; 0.9,0.99 forgets faster."
    )
    eps: float = setting(1e-8, help="Added to the root.")
    weight_decay: float = setting(0.0, help="How strongly parameters are drawn to zero.", ge=0)
    decouple: bool = setting(False, help="Decay as AdamW does, instead of through the gradient.")
    use_bias_correction: bool = setting(False, help="Adam's bias correction, which makes the first steps smaller.")
    d0: float = setting(1e-6, help="The first guess of d; raise it if d never leaves it.")
    growth_rate: float = setting(math.inf, help="The most that d may grow by in one step, e.g. 1.02.")

    def __post_init__(self):
        check_betas(self.betas)
        check_positive(eps=self.eps, d0=self.d0)
        check_growth_rate(self.growth_rate)


@dataclass(frozen=True)
class _Block:
    """Views of one piece of every stream, made once: slicing costs as much as the arithmetic on a small block."""

    rate: float
    param: Tensor
    grad: Tensor
    s: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    numerator: Tensor
    sk_l1: Tensor


@OPTIMIZERS.register("DAdaptAdam")
class DAdaptAdam:
    """Adam that learns its step size d from the gradients' agreement with their running sum (arXiv:2301.07733).

    Groups may differ in rate: lr of the group / largest lr is dadaptation's `layer_scale` (which leaves decay alone).
    A group with rate 0 stays as it is, decay included. One pass: a step uses the d that it began with.

    Unlike the package, decoupled decay also applies while every gradient so far was zero.

    State: s, exp_avg, exp_avg_sq [N] fp32; d, numerator_weighted, k 0-dim fp64 (fp32 on Apple's GPUs).
    Raises ConfigError for an unknown or impossible option."""

    def __init__(self, buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None):
        """block_numel: elements per kernel; by default what suits the device."""
        self.options = read_options(DAdaptAdamOptions, options)
        self._buffer = buffer
        self._lr = largest_lr(buffer)
        self._s = torch.zeros_like(buffer.params)
        self._exp_avg = torch.zeros_like(buffer.params)
        self._exp_avg_sq = torch.zeros_like(buffer.params)
        self._d = self._scalar(self.options.d0)
        self._numerator_weighted, self._k = self._scalar(0.0), self._scalar(0.0)
        self._blocks = self._cut(block_numel)

    @property
    def d(self) -> Tensor:
        """The learned distance: 0-dim on the device, never changed in place, never falling."""
        return self._d

    def effective_lr(self, lr_factor: float) -> dict[str, Tensor | float]:
        """Each group's d · lr · lr_factor, 0-dim on the device."""
        return {group.name: self._d * (group.lr * lr_factor) for group in self._buffer.groups}

    @torch.no_grad()
    def step(self, lr_factor: float) -> None:
        """Move once. At lr_factor 0 nothing changes, as in dadaptation."""
        lr = self._lr * lr_factor
        if lr == 0:
            return
        dlr = self._d * lr
        if self.options.use_bias_correction:
            dlr = dlr * bias_correction(self.options.betas, self._k)
        self._move(dlr)
        self._estimate(dlr)

    def _move(self, dlr: Tensor) -> None:
        """The pass: each block's share of the estimate of d, s, the moments, and the step itself."""
        options = self.options
        beta1, beta2 = options.betas
        decays = options.weight_decay > 0 and options.decouple
        stride, decay = fp32_scalars(dlr, -options.weight_decay * dlr)
        scratch, with_decay = self._scratch()
        for block in self._blocks:
            t = scratch[: block.param.numel()]
            grad = self._gradient(block, with_decay)
            torch.sqrt(block.exp_avg_sq, out=t).add_(options.eps)
            block.numerator.copy_(torch.dot(grad, torch.div(block.s, t, out=t)))
            torch.mul(grad, stride, out=t)
            block.s.lerp_(t, 1 - math.sqrt(beta2))
            block.exp_avg.mul_(beta1).add_(t, alpha=block.rate * (1 - beta1))
            torch.sum(torch.abs(block.s, out=t), dim=0, out=block.sk_l1)
            block.exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            if decays:
                block.param.addcmul_(block.param, decay)
            torch.sqrt(block.exp_avg_sq, out=t).add_(options.eps)
            block.param.addcdiv_(block.exp_avg, t, value=-1)

    def _estimate(self, dlr: Tensor) -> None:
        """The next step's d from the sums of this one."""
        root = math.sqrt(self.options.betas[1])
        numerator = dlr * self._numerators.to(dlr.dtype).mul(self._rates).sum()
        numerator_weighted = root * self._numerator_weighted + (1 - root) * numerator
        sk_l1 = self._sk_l1s.to(dlr.dtype).mul(self._rates).sum()
        moves = sk_l1 > 0
        d_hat = numerator_weighted / ((1 - root) * sk_l1)
        d = torch.maximum(self._d, torch.minimum(d_hat, self._d * self.options.growth_rate))
        self._d = torch.where(moves, d, self._d)
        self._numerator_weighted = torch.where(moves, numerator_weighted, self._numerator_weighted)
        self._k = self._k + moves

    def _gradient(self, block: _Block, with_decay: Tensor | None) -> Tensor:
        """The gradient, with decay added where it is coupled; the buffer's own stays as backward left it."""
        if with_decay is None:
            return block.grad
        decayed = with_decay[: block.param.numel()]
        return torch.add(block.grad, block.param, alpha=self.options.weight_decay, out=decayed)

    def _scratch(self) -> tuple[Tensor, Tensor | None]:
        size = max(block.param.numel() for block in self._blocks)
        coupled = self.options.weight_decay > 0 and not self.options.decouple
        empty = self._buffer.params.new_empty
        return empty(size), empty(size) if coupled else None

    def _cut(self, block_numel: int | None) -> tuple[_Block, ...]:
        cuts = blocks_of(self._buffer, block_numel)
        zeros = self._buffer.params.new_zeros
        self._numerators, self._sk_l1s = zeros(len(cuts)), zeros(len(cuts))
        self._rates = torch.tensor([cut.rate for cut in cuts], dtype=self._d.dtype, device=self._buffer.device)
        return tuple(
            _Block(
                rate=cut.rate,
                param=cut.of(self._buffer.params),
                grad=cut.of(self._buffer.grads),
                s=cut.of(self._s),
                exp_avg=cut.of(self._exp_avg),
                exp_avg_sq=cut.of(self._exp_avg_sq),
                numerator=self._numerators[index],
                sk_l1=self._sk_l1s[index],
            )
            for index, cut in enumerate(cuts)
        )

    def _scalar(self, value: Any) -> Tensor:
        return as_scalar(value, self._buffer.device)

    def state_dict(self) -> dict[str, Tensor]:
        """The live state, flat: save or clone it before the next step."""
        scalars = {"d": self._d, "numerator_weighted": self._numerator_weighted, "k": self._k}
        return {**self._flat_state(), **scalars, "layout": self._buffer.layout}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy a saved state in. Raises RunError if it is another network's or another optimizer's."""
        check_state(self._buffer, self.state_dict(), state)
        for name, flat in self._flat_state().items():
            flat.copy_(state[name])
        self._set_scalars(state)

    @torch.no_grad()
    def to_package_state(self) -> dict[str, Any]:
        """The state as dadaptation's `state_dict()`, with unequal rates as `layer_scale`."""
        steps = int(self._k)

        def group_values(group: Group) -> dict[str, Any]:
            scalars = {"d": float(self._d), "numerator_weighted": float(self._numerator_weighted), "k": steps}
            # The package wants one rate; 0 stays 0, which it takes for frozen.
            rates = {
                "lr": self._lr if group.lr > 0 else 0.0,
                "layer_scale": group.lr / self._lr if group.lr > 0 else 1.0,
            }
            return {**asdict(self.options), **rates, **scalars, "log_every": 0, "fsdp_in_use": False}

        def per_parameter(place: Place) -> dict[str, Any]:
            return {"step": steps, **{name: place.of(flat).clone() for name, flat in self._flat_state().items()}}

        return to_package(self._buffer, group_values, per_parameter)

    @torch.no_grad()
    def from_package_state(self, state: Mapping[str, Any]) -> None:
        """Take over dadaptation's `state_dict()`. Raises RunError if the parameters do not match."""
        from_package(self._buffer, state, self._flat_state())
        self._set_scalars(state["param_groups"][0])

    def _flat_state(self) -> dict[str, Tensor]:
        return {"s": self._s, "exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq}

    def _set_scalars(self, values: Mapping[str, Any]) -> None:
        self._d, self._k = self._scalar(values["d"]), self._scalar(values["k"])
        self._numerator_weighted = self._scalar(values["numerator_weighted"])
