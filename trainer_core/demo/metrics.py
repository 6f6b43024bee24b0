"""What the demo measures at every epoch, and which epoch that makes the best one.

Likeness (is it the mascot?), obedience (is the rest what was asked?), bleed (have other prompts changed?), rigidity
(is it always the same picture?) and held-out loss. No downloaded weights: pictures are compared with drawings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .backdrops import Backdrop
from .character import Portrait, TestPrompt
from .likeness import Fit, fit_mascot
from .obedience import backdrop_obedience, position_obedience

# of 255; less is the shimmer that any training leaves on a picture
VISIBLE_CHANGE = 64.0


@dataclass(frozen=True)
class EpochScores:
    """One epoch in numbers, all 0..1 except the loss. High likeness and obedience are good; low bleed and rigidity."""

    epoch: int
    likeness: float
    obedience: float
    bleed: float
    rigidity: float = 0.0
    held_out_loss: float | None = None

    @property
    def total(self) -> float:
        """The ranking's number: a likeness that obeys, less what it costs other prompts."""
        return self.likeness * self.obedience - 0.5 * self.bleed


@dataclass(frozen=True)
class RankedEpoch:
    """An epoch's place in the ranking. verdict: best, close, underbaked, overfit, bleeds or disobeys."""

    scores: EpochScores
    verdict: str
    why: str


def score_epoch(
    epoch: int,
    pictures: Sequence[Image.Image],
    prompts: Sequence[TestPrompt],
    controls: Sequence[Image.Image],
    controls_before: Sequence[Image.Image],
    held_out_loss: float | None = None,
    training: Sequence[Portrait] = (),
) -> EpochScores:
    """Measure one epoch. pictures[i] answers prompts[i]; controls and controls_before share prompts and seeds, with
    and without the LoRA; training is what the rigidity is compared with (left out: rigidity 0)."""
    fits = fit_mascot(pictures)
    obeyed = [obedience(picture, prompt, fit) for picture, prompt, fit in zip(pictures, prompts, fits, strict=True)]
    free = [fit for fit, prompt in zip(fits, prompts, strict=True) if not prompt.position]
    return EpochScores(
        epoch=epoch,
        likeness=float(np.mean([fit.likeness for fit in fits])),
        obedience=float(np.mean(obeyed)),
        bleed=bleed(controls, controls_before),
        rigidity=rigidity(free, training) if training else 0.0,
        held_out_loss=held_out_loss,
    )


def obedience(picture: Image.Image, prompt: TestPrompt, fit: Fit) -> float:
    """How far one picture does what its prompt asks around the mascot, 0..1; a wrong place halves it."""
    # where no mascot is found, the whole picture counts as background
    mask = fit.mask if fit.likeness > 0 else np.zeros((64, 64), dtype=np.float32)
    score = backdrop_obedience(picture, prompt.backdrop, mask)
    return score if not prompt.position or position_obedience(fit, prompt.position) else score / 2


def bleed(controls: Sequence[Image.Image], controls_before: Sequence[Image.Image]) -> float:
    """The share of a control picture that visibly changed, mean over pictures, 0..1.

    Pictures of prompts without the trigger, same seeds, with and without the LoRA: what changed, leaked."""
    changed = []
    for after, before in zip(controls, controls_before, strict=True):
        difference = np.asarray(after.convert("RGB"), np.float32) - np.asarray(before.convert("RGB"), np.float32)
        changed.append((np.abs(difference).max(axis=-1) > VISIBLE_CHANGE).mean())
    return float(np.mean(changed))


def rigidity(fits: Sequence[Fit], training: Sequence[Portrait]) -> float:
    """How much of the training pictures' variety in place and size is gone, 0 (none) to 1 (always the same pose).

    fits: of prompts that name no place, over seeds. training: only its portraits that name none either are compared."""
    shown = [portrait.pose for portrait in training if not portrait.position and not portrait.size]
    if len(fits) < 2 or len(shown) < 2:
        return 0.0

    def spread(poses: Sequence) -> np.ndarray:
        return np.array([[p.x, p.y, p.radius] for p in poses]).std(axis=0)

    kept = spread([fit.pose for fit in fits]) / np.maximum(spread(shown), 1e-3)
    return float(1 - np.minimum(kept, 1).mean())


def held_out_loss(
    predict: Callable[[Tensor, Tensor, Sequence[str]], Tensor],
    latents: Tensor,
    captions: Sequence[str],
    alphas_cumprod: Tensor,
    repeats: int = 4,
    seed: int = 0,
) -> float:
    """v-prediction loss on pictures that were not trained on, at fixed noise and times: epochs compare exactly.

    predict: (x_t [B,C,h,w], t [B], captions) → v like x_t. latents: [B,C,h,w], scaled. Lower is better."""
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for i in range(repeats):
        # one slice of the times per repeat, so that few repeats still cover them all
        low, high = i * len(alphas_cumprod) // repeats, (i + 1) * len(alphas_cumprod) // repeats
        t = torch.randint(low, high, (len(latents),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        signal = alphas_cumprod[t].sqrt().view(-1, 1, 1, 1)
        spread = (1 - alphas_cumprod[t]).sqrt().view(-1, 1, 1, 1)
        with torch.no_grad():
            v = predict(signal * latents + spread * noise, t, captions)
        losses.append((v - (signal * noise - spread * latents)).square().mean())
    return torch.stack(losses).mean().item()


def rank_epochs(scores: Sequence[EpochScores]) -> list[RankedEpoch]:
    """Epochs from best to worst, each with a verdict and its reason in a sentence. Raises ValueError for none.

    Ties of a hundredth go to the earlier epoch: what less training does as well, it does with less damage."""
    if not scores:
        raise ValueError("no epochs to rank: score at least one")
    order = sorted(scores, key=lambda s: (-round(s.total, 2), s.epoch))
    best = order[0]
    lowest_loss = min((s.held_out_loss for s in scores if s.held_out_loss is not None), default=None)
    return [RankedEpoch(s, *_judge(s, best, lowest_loss)) for s in order]


def _judge(scores: EpochScores, best: EpochScores, lowest_loss: float | None) -> tuple[str, str]:
    if scores is best:
        return "best", (
            f"likeness {scores.likeness:.0%}, obeys {scores.obedience:.0%}, other prompts changed {scores.bleed:.0%}"
        )
    if scores.epoch < best.epoch and scores.likeness < best.likeness - 0.03:
        return "underbaked", f"likeness {scores.likeness:.0%}; epoch {best.epoch} reaches {best.likeness:.0%}"
    if scores.epoch > best.epoch:
        signs = _overfit_signs(scores, best, lowest_loss)
        if signs:
            return "overfit", "; ".join(signs)
    if scores.bleed > best.bleed + 0.02:
        return "bleeds", f"other prompts changed {scores.bleed:.0%}, {best.bleed:.0%} at epoch {best.epoch}"
    if scores.obedience < best.obedience - 0.05:
        return "disobeys", f"obeys {scores.obedience:.0%}, {best.obedience:.0%} at epoch {best.epoch}"
    return "close", f"within a few points of epoch {best.epoch}"


def _overfit_signs(scores: EpochScores, best: EpochScores, lowest_loss: float | None) -> list[str]:
    signs = []
    if scores.likeness < best.likeness - 0.05:
        signs.append(f"likeness fell from {best.likeness:.0%} to {scores.likeness:.0%}")
    if scores.obedience < best.obedience - 0.05:
        signs.append(f"obedience fell from {best.obedience:.0%} to {scores.obedience:.0%}")
    if scores.bleed > best.bleed + 0.03:
        signs.append(f"bleeds: other prompts changed {scores.bleed:.0%}, {best.bleed:.0%} at epoch {best.epoch}")
    # the loss alone is no sign: its lowest point comes before the best picture
    if signs and lowest_loss and scores.held_out_loss and scores.held_out_loss > 1.1 * lowest_loss:
        signs.append(f"held-out loss {scores.held_out_loss:.3f}, lowest was {lowest_loss:.3f}")
    return signs


__all__ = [
    "Backdrop",
    "EpochScores",
    "RankedEpoch",
    "backdrop_obedience",
    "bleed",
    "fit_mascot",
    "held_out_loss",
    "obedience",
    "position_obedience",
    "rank_epochs",
    "rigidity",
    "score_epoch",
]
