"""Prodigy (Mishchenko & Defazio 2023, arXiv:2306.06101) over a flat buffer, as prodigyopt 1.1.2 computes it."""

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
class ProdigyOptions:
    """prodigyopt's options, names and defaults."""

    betas: tuple[float, float] = setting(
        (0.9, 0.999), help="Memory of the gradient and of its square; 0.9,0.99 forgets faster."
    )
    beta3: float | None = setting(None, help="Memory of the step size estimate; the root of beta2 when left out.", ge=0)
    eps: float = setting(1e-8, help="Added to the root, times d.")
    weight_decay: float = setting(0.0, help="How strongly parameters are drawn to zero.", ge=0)
    decouple: bool = setting(True, help="Decay as AdamW does, instead of through the gradient.")
    use_bias_correction: bool = setting(False, help="Adam's bias correction, which makes the first steps smaller.")
    safeguard_warmup: bool = setting(False, help="Keep the warm-up's small rates from inflating d.")
    d0: float = setting(1e-6, help="The first guess of d; raise it if d never leaves it.")
    d_coef: float = setting(1.0, help="Factor on the estimate of d: the intended knob, 0.5 to 2.")
    growth_rate: float = setting(math.inf, help="The most that d may grow by in one step, e.g. 1.02.")

    def __post_init__(self):
        check_betas(self.betas)
        check_positive(eps=self.eps, d0=self.d0, d_coef=self.d_coef)
        check_growth_rate(self.growth_rate)


@dataclass(frozen=True)
class _Block:
    """Views of one piece of every stream, made once: slicing costs as much as the arithmetic on a small block."""

    rate: float
    param: Tensor
    grad: Tensor
    p0: Tensor
    s: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    numerator: Tensor
    denominator: Tensor


@OPTIMIZERS.register("Prodigy")
class Prodigy:
    """Adam that learns its step size d from how far the parameters have come (arXiv:2306.06101, algorithm 4).

    Groups may differ in rate, which prodigyopt refuses: with r = lr of the group / largest lr, a group's step and its
    weight in the estimate of d are r times the common ones; that is Prodigy on p / r. (Decay takes the largest rate, as
    under dadaptation's `layer_scale`.) A group with rate 0 stays as it is, decay included.

    State: p0, s, exp_avg, exp_avg_sq [N] fp32; d, d_max, d_numerator, k 0-dim fp64 (fp32 on Apple's GPUs).
    Raises ConfigError for an unknown or impossible option."""

    def __init__(self, buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None):
        """block_numel: elements per kernel; by default what suits the device."""
        self.options = read_options(ProdigyOptions, options)
        self._buffer = buffer
        self._lr = largest_lr(buffer)
        self._p0 = buffer.params.detach().clone()
        self._s = torch.zeros_like(buffer.params)
        self._exp_avg = torch.zeros_like(buffer.params)
        self._exp_avg_sq = torch.zeros_like(buffer.params)
        self._d, self._d_max = self._scalar(self.options.d0), self._scalar(self.options.d0)
        self._d_numerator, self._k = self._scalar(0.0), self._scalar(0.0)
        self._blocks = self._cut(block_numel)

    @property
    def d(self) -> Tensor:
        """The learned distance: 0-dim on the device, never changed in place, never below d0."""
        return self._d

    def effective_lr(self, lr_factor: float) -> dict[str, Tensor | float]:
        """Each group's d · lr · lr_factor, 0-dim on the device."""
        return {group.name: self._d * (group.lr * lr_factor) for group in self._buffer.groups}

    @torch.no_grad()
    def step(self, lr_factor: float) -> None:
        """Move once. At lr_factor 0, or while every gradient so far was zero, nothing changes, as in prodigyopt."""
        lr = self._lr * lr_factor
        if lr == 0:
            return
        d, dlr = self._d, self._d * lr
        if self.options.use_bias_correction:
            dlr = dlr * bias_correction(self.options.betas, self._k)
        self._observe(d, dlr)
        moves = self._estimate(d, dlr)
        self._move(dlr, moves)

    def _observe(self, d: Tensor, dlr: Tensor) -> None:
        """First pass: the moments, s, and each block's share of the estimate of d."""
        beta1, beta2 = self.options.betas
        weight = (d if self.options.safeguard_warmup else dlr) / self.options.d0
        d, weight = fp32_scalars(d, weight)
        scratch, with_decay = self._scratch()
        for block in self._blocks:
            t = scratch[: block.param.numel()]
            grad = self._gradient(block, with_decay)
            block.numerator.copy_(torch.dot(grad, torch.sub(block.p0, block.param, out=t)))
            torch.mul(grad, d, out=t)
            if beta1 > 0:
                block.exp_avg.lerp_(t, 1 - beta1)
            block.exp_avg_sq.mul_(beta2).addcmul_(t, t, value=1 - beta2)
            block.s.mul_(self._beta3).addcmul_(t, weight)
            torch.sum(torch.abs(block.s, out=t), dim=0, out=block.denominator)

    def _estimate(self, d: Tensor, dlr: Tensor) -> Tensor:
        """The new d from the sums of the first pass; gives a 0-dim bool: whether there has been any gradient yet."""
        options = self.options
        numerator = self._d_numerator * self._beta3 + d / options.d0 * dlr * self._numerators.sum(dtype=d.dtype)
        denominator = self._denominators.to(d.dtype).mul(self._rates).sum()
        moves = denominator > 0
        d_hat = options.d_coef * numerator / denominator
        first = torch.where(d == options.d0, torch.maximum(d, d_hat), d)
        d_max = torch.maximum(self._d_max, d_hat)
        self._d = torch.where(moves, torch.minimum(d_max, first * options.growth_rate), d)
        self._d_max = torch.where(moves, d_max, self._d_max)
        self._d_numerator = torch.where(moves, numerator, self._d_numerator)
        self._k = self._k + moves
        return moves

    def _move(self, dlr: Tensor, moves: Tensor) -> None:
        """Second pass: the step by the old d, with the new one beside the root."""
        options = self.options
        beta1 = options.betas[0]
        decays = options.weight_decay > 0 and options.decouple
        # Without a first moment the gradient takes its place, and brings no d of its own.
        stride = -dlr if beta1 > 0 else -dlr * self._d
        eps, stride, decay = fp32_scalars(self._d * options.eps, stride, -options.weight_decay * dlr * moves)
        scratch, with_decay = self._scratch()
        for block in reversed(self._blocks):  # the first pass left the last blocks in the cache
            t = scratch[: block.param.numel()]
            direction = block.exp_avg if beta1 > 0 else self._gradient(block, with_decay)
            torch.sqrt(block.exp_avg_sq, out=t).add_(eps)
            torch.div(direction, t, out=t)
            if decays:
                block.param.addcmul_(block.param, decay)
            block.param.addcmul_(t, stride, value=block.rate)

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
        self._numerators, self._denominators = zeros(len(cuts)), zeros(len(cuts))
        self._rates = torch.tensor([cut.rate for cut in cuts], dtype=self._d.dtype, device=self._buffer.device)
        return tuple(
            _Block(
                rate=cut.rate,
                param=cut.of(self._buffer.params),
                grad=cut.of(self._buffer.grads),
                p0=cut.of(self._p0),
                s=cut.of(self._s),
                exp_avg=cut.of(self._exp_avg),
                exp_avg_sq=cut.of(self._exp_avg_sq),
                numerator=self._numerators[index],
                denominator=self._denominators[index],
            )
            for index, cut in enumerate(cuts)
        )

    @property
    def _beta3(self) -> float:
        return math.sqrt(self.options.betas[1]) if self.options.beta3 is None else self.options.beta3

    def _scalar(self, value: float) -> Tensor:
        return as_scalar(value, self._buffer.device)

    def state_dict(self) -> dict[str, Tensor]:
        """The live state, flat: save or clone it before the next step."""
        scalars = {"d": self._d, "d_max": self._d_max, "d_numerator": self._d_numerator, "k": self._k}
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
        """The state as prodigyopt's `state_dict()`; prodigyopt itself refuses to step with unequal rates."""
        steps = int(self._k)

        def group_values(group: Group) -> dict[str, Any]:
            scalars = {"d": float(self._d), "d_max": float(self._d_max), "d_numerator": float(self._d_numerator)}
            return {**asdict(self.options), "lr": group.lr, **scalars, "k": steps, "fsdp_in_use": False, "slice_p": 1}

        def per_parameter(place: Place) -> dict[str, Any]:
            moments = ("exp_avg", "exp_avg_sq") if self.options.betas[0] > 0 else ("exp_avg_sq",)
            flat = self._flat_state()
            # prodigyopt keeps s and p0 as vectors, and a p0 of zeros as a scalar.
            p0 = place.of(self._p0).flatten()
            return {
                "step": steps,
                "s": place.of(self._s).flatten().clone(),
                "p0": p0.clone() if p0.any() else p0.new_tensor(0),
                **{name: place.of(flat[name]).clone() for name in moments},
            }

        return to_package(self._buffer, group_values, per_parameter)

    @torch.no_grad()
    def from_package_state(self, state: Mapping[str, Any]) -> None:
        """Take over prodigyopt's `state_dict()` (slice_p=1). Raises RunError if the parameters do not match."""
        flat = self._flat_state()
        if self.options.betas[0] == 0:
            del flat["exp_avg"]
        from_package(self._buffer, state, flat)
        self._set_scalars(state["param_groups"][0])

    def _flat_state(self) -> dict[str, Tensor]:
        return {"p0": self._p0, "s": self._s, "exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq}

    def _set_scalars(self, values: Mapping[str, Any]) -> None:
        self._d, self._d_max = self._scalar(values["d"]), self._scalar(values["d_max"])
        self._d_numerator, self._k = self._scalar(values["d_numerator"]), self._scalar(values["k"])
