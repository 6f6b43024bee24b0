"""One training on several one-thread processes whose gradients or parameters are averaged.

On a few CPU cores this beats one process with as many threads: the processes meet once a step or less, threads at every
operation, and small networks are made of many small operations."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor


def run_workers(work: Callable[..., None], count: int, *arguments: Any) -> None:
    """Run work(rank, *arguments) in `count` new processes and wait for all; an error in one ends them all."""
    torch.multiprocessing.spawn(_enter, args=(work, count, _free_port(), arguments), nprocs=count)


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace every worker's gradients by their mean: one message for all parameters."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
        parameter.grad = part.view_as(parameter)


@torch.no_grad()
def average_parameters(parameters: Sequence[Tensor]) -> None:
    """Replace every worker's parameters by their mean. Done every few steps in place of averaging gradients at each,
    workers seldom wait for one another (local SGD, Stich 2019, arXiv:1805.09767)."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
        parameter.copy_(part.view_as(parameter))


def follow_first(value: float) -> float:
    """The first worker's value, on every worker: clocks differ, schedules must not."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(shared, src=0)
    return shared.item()


def _enter(rank: int, work: Callable[..., None], count: int, port: int, arguments: tuple[Any, ...]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=count)
    try:
        work(rank, *arguments)
    finally:
        distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
