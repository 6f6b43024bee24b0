"""Small LoRA-like parameters and gradients, the same for ours and the packages'."""

import contextlib
import io
import math
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch import nn

# LoRA-like tensors: odd sizes, a scalar, and every second one zero at the start.
SHAPES = ((4, 33), (48, 4), (4, 20), (7, 4), (8, 3, 3, 3), (1,), (2, 65), (19, 2))


def new_parameters(shapes=SHAPES, seed=0, prefix="p"):
    """Named parameters at LoRA's start: the even ones random, the odd ones zero."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{prefix}{index}": nn.Parameter(
            torch.zeros(shape) if index % 2 else torch.randn(shape, generator=generator) * 0.3
        )
        for index, shape in enumerate(shapes)
    }


@cache
def target_and_noise(shape, index, step):
    """What tensor number `index` is drawn to, and the noise on its gradient in that step."""
    generator = torch.Generator().manual_seed(1000 * step + index)
    target = torch.cos(torch.arange(math.prod(shape)) + index).view(shape)
    return target, torch.randn(shape, generator=generator) * 0.01


def toy_gradient(parameter, index, step):
    """A bounded, noisy pull towards the target: a function of the parameter's values, its number and the step."""
    target, noise = target_and_noise(tuple(parameter.shape), index, step)
    return torch.tanh(parameter.detach() - target) * 0.02 + noise


def fill_gradients(parameters, step):
    """Give every parameter its toy gradient: into the one that is there, or as a new one."""
    for index, parameter in enumerate(parameters.values()):
        gradient = toy_gradient(parameter, index, step)
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            parameter.grad.copy_(gradient)


def package_optimizer(kind, groups, **options):
    """A package's optimizer over the groups' parameters; the packages print on construction."""
    with contextlib.redirect_stdout(io.StringIO()):
        return kind(groups, **options)


@pytest.fixture(autouse=True)
def one_thread():
    """The tensors are tiny; a thread pool would only add waiting, and noise on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def toy():
    """The functions above; test files are imported by path and cannot import from each other."""
    return SimpleNamespace(
        shapes=SHAPES,
        new_parameters=new_parameters,
        fill_gradients=fill_gradients,
        package_optimizer=package_optimizer,
    )
