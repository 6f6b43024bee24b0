"""The grid of a run's epochs: one prompt, a column an epoch, a row a strength, drawn by the host's own sampler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from PIL import Image
from torch import Tensor

from ..config import TrainConfig
from ..files.lora_file import load_lora
from ..grid import labelled_grid
from ..hosts.base import Host, SampleRequest
from ..hosts.venue import GridRequest
from ..networks.network import Network, build_network
from ..plan import trained_components
from ..sampling import text_options
from .epoch_files import SavedEpoch

_WITHOUT = "without LoRA"
_SMALLEST_CELL = 192  # pixels; smaller pictures are enlarged to it


def epoch_grid(host: Host, request: GridRequest, epochs: Mapping[str, SavedEpoch]) -> Image.Image:
    """The request's pictures as one. epochs: of every stem in the request but "".

    The model's weights are the same before and after. Raises RunError for a file that is not of this model."""
    with host.borrowed([], "auto", False):
        columns = [list(_column(host, request, epochs[stem] if stem else None)) for stem in request.epochs]
    rows = [f"strength {weight:g}" for weight in request.weights] if len(request.weights) > 1 else ()
    cells = [[_enlarged(column[row]) for column in columns] for row in range(len(request.weights))]
    return labelled_grid(cells, [stem or _WITHOUT for stem in request.epochs], rows)


def _column(host: Host, request: GridRequest, epoch: SavedEpoch | None) -> Iterator[Image.Image]:
    """A picture for each strength; without an epoch the model's own, drawn once."""
    if epoch is None:
        yield from [host.sample(_sample(request, None))] * len(request.weights)
        return
    config = epoch.config
    with torch.inference_mode(False):
        components = host.components()
        trained = {name: components[name] for name in trained_components(config, list(components))}
        network = build_network(config.network, trained, host.family, config.seed, host.device)
        network.load_state_dict(load_lora(epoch.path)[0])
    for weight in request.weights:
        with merged(network, weight):
            yield host.sample(_sample(request, config))


@contextmanager
def merged(network: Network, weight: float) -> Iterator[None]:
    """The adapted layers with `weight` times what the LoRA adds, as the UIs merge it; then their own tensors again."""
    deltas, biases = network.delta_weights(), network.delta_biases()
    with ExitStack() as undo:
        for adapter in network.adapters:
            module = adapter.layer.module
            for name, found in (("weight", deltas), ("bias", biases)):
                tensor = getattr(module, name, None)
                if tensor is not None and adapter.key in found:
                    undo.callback(setattr, tensor, "data", tensor.data)
                    tensor.data = _added(tensor.data, found[adapter.key], weight)
        yield


def _added(tensor: Tensor, delta: Tensor, weight: float) -> Tensor:
    return (tensor.float() + weight * delta.to(tensor.device).reshape(tensor.shape)).to(tensor.dtype)


def _sample(request: GridRequest, config: TrainConfig | None) -> SampleRequest:
    given = SampleRequest(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        steps=request.steps,
        cfg=request.cfg,
        seed=request.seed,
    )
    return given if config is None else SampleRequest(**{**vars(given), "text": text_options(config)})


def _enlarged(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    if side >= _SMALLEST_CELL:
        return picture
    factor = -(-_SMALLEST_CELL // side)
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.LANCZOS)
