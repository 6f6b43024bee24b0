"""Settings that do nothing, contradict each other or are known from the guides to go wrong: said before training."""

from __future__ import annotations

from collections.abc import Iterator

from .config import TrainConfig

ADAPTIVE_OPTIMIZERS = ("prodigy", "dadaptadam")


def advise(config: TrainConfig, total_steps: int, warmup_steps: int) -> Iterator[str]:
    """One sentence for each doubtful setting, naming the setting and the cure."""
    yield from _about_the_network(config)
    yield from _about_the_learning_rate(config)
    yield from _about_the_schedule(config, total_steps, warmup_steps)


def _about_the_network(config: TrainConfig) -> Iterator[str]:
    network, optimizer = config.network, config.optimizer
    if network.algo == "lora" and (network.conv_rank is not None or network.conv_alpha is not None):
        yield "conv_rank and conv_alpha do nothing for algo lora; choose locon to train convolutions"
    if network.alpha and not 1 / 16 <= network.alpha / network.rank <= 4:
        yield (
            f"alpha {network.alpha:g} at rank {network.rank} scales the adapter by {network.alpha / network.rank:.3g}; "
            "set alpha to the rank or half of it unless you mean that"
        )
    if not network.train_unet and optimizer.unet_lr is not None:
        yield "unet_lr does nothing while train_unet is off"
    if not network.train_text_encoder and optimizer.text_encoder_lr is not None:
        yield "text_encoder_lr does nothing while train_text_encoder is off"


def _about_the_learning_rate(config: TrainConfig) -> Iterator[str]:
    optimizer = config.optimizer
    is_adaptive = optimizer.optimizer.lower() in ADAPTIVE_OPTIMIZERS
    if is_adaptive and not 0.1 <= optimizer.learning_rate <= 2:
        yield (
            f"{optimizer.optimizer} finds the learning rate itself and learning_rate {optimizer.learning_rate:g} "
            "only scales it; leave it at 1"
        )
    if not is_adaptive and optimizer.learning_rate > 0.01:
        yield (
            f"learning_rate {optimizer.learning_rate:g} is far above what {optimizer.optimizer} survives; "
            "try 1e-4, or choose Prodigy"
        )


def _about_the_schedule(config: TrainConfig, total_steps: int, warmup_steps: int) -> Iterator[str]:
    if warmup_steps >= total_steps:
        yield f"the warm-up of {warmup_steps} steps is as long as the run of {total_steps}; shorten it"
    if total_steps < 100 and config.optimizer.optimizer.lower() in ADAPTIVE_OPTIMIZERS:
        yield (
            f"{total_steps} steps are few for {config.optimizer.optimizer}, which spends the first ones finding its "
            "rate; give more epochs or repeats"
        )
    if config.dataset.keep_tokens and not config.dataset.shuffle_caption:
        yield "keep_tokens does nothing while shuffle_caption is off"
