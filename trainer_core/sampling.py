"""Preview pictures while training, through the host's own sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .config import TrainConfig, text_chunks
from .errors import LazyLoraError, SamplingStopped
from .events import Sampled, Warned
from .files.run_folder import RunFolder
from .hosts.base import SampleRequest, TextOptions, never
from .networks.network import Network

if TYPE_CHECKING:
    from .hosts.base import Host


def previews(
    config: TrainConfig,
    host: Host,
    network: Network,
    folder: RunFolder,
    epoch: int,
    is_cancelled: Callable[[], bool] = never,
) -> Iterator[Sampled | Warned]:
    """One picture per prompt, saved in the run's folder. A preview that fails is a warning: training goes on.

    is_cancelled: asked after each step of the sampler, which gives up when it says yes; no further one is begun."""
    for number, prompt in enumerate(config.sample.prompts):
        path = folder.sample_file(epoch, number)
        try:
            with network.without_randomness():
                image = host.sample(_request(config, prompt), is_cancelled)
            path.parent.mkdir(exist_ok=True)
            image.save(path)
        except SamplingStopped:
            yield Warned(f"the previews of epoch {epoch} were cut short")  # and whoever cancelled sees to the rest
            return
        except (LazyLoraError, RuntimeError, OSError) as error:
            yield Warned(f'the preview of "{prompt}" failed ({error}); training goes on without it')
        else:
            yield Sampled(epoch, prompt, image, path)


def text_options(config: TrainConfig) -> TextOptions:
    """How the run's captions and preview prompts are encoded."""
    return TextOptions(text_chunks(config.max_token_length), config.clip_skip or 1, config.dataset.weighted_captions)


def _request(config: TrainConfig, prompt: str) -> SampleRequest:
    sample, side = config.sample, config.dataset.resolution
    return SampleRequest(
        prompt=prompt,
        negative_prompt=sample.negative_prompt,
        width=sample.width or side,
        height=sample.height or side,
        steps=sample.steps,
        cfg=sample.cfg,
        seed=sample.seed,
        text=text_options(config),
    )
