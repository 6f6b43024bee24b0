"""Regularisation pictures: what the model should go on to show for the class that the subject belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..config import DatasetConfig
from ..errors import DataError
from .examples import Dataset, Example, dirs_of, scan


def with_regularisation(dataset: Dataset, config: DatasetConfig) -> Dataset:
    """The dataset with its regularisation pictures, those of `reg_data_dir` included, behind its own, as many visits an
    epoch as those have.

    They lie and are captioned as training pictures are (prior preservation, Ruiz et al. 2022, arXiv:2208.12242 §4.2, as
    kohya has it). Raises DataError for a folder that is missing or without usable pictures, and where there is nothing
    but regularisation."""
    beside = _of_folder(config)
    found = [*(example for example in dataset.examples if example.is_reg), *beside.examples]
    if not dataset.subjects:
        raise DataError("all pictures are for regularisation; give at least one folder of what is to be learned")
    if not found:
        return dataset
    wanted = dataset.num_train_images
    repeats = balanced_repeats([example.repeats for example in found], wanted)
    chosen = [
        replace(example, is_reg=True, repeats=times) for example, times in zip(found, repeats, strict=True) if times
    ]
    warnings = [f"reg_data_dir: {warning}" for warning in beside.warnings]
    if left_out := len(found) - len(chosen):
        warnings.append(
            f"regularisation: {left_out} of {len(found)} pictures are more than the {wanted} training pictures "
            "of an epoch (repeats counted) need and are left out; raise the training folders' repeats to use them"
        )
    return replace(
        dataset,
        examples=(*dataset.subjects, *chosen),
        warnings=(*dataset.warnings, *warnings),
        reg_dirs=dirs_of(found),
    )


def _of_folder(config: DatasetConfig) -> Dataset:
    if not config.reg_data_dir.strip():
        return Dataset(())
    try:
        return scan(replace(config, folder=config.reg_data_dir))
    except DataError as error:
        raise DataError(f"reg_data_dir: {error}") from error


def importance_of(
    examples: Sequence[Example], prior_loss_weight: float, device: torch.device | str = "cpu"
) -> Tensor | None:
    """Each picture's weight in the loss, [N] fp32: `prior_loss_weight` for regularisation, 1 for the others.

    None where they are all 1."""
    if prior_loss_weight == 1 or not any(example.is_reg for example in examples):
        return None
    weights = [prior_loss_weight if example.is_reg else 1.0 for example in examples]
    return torch.tensor(weights, dtype=torch.float32, device=device)


def balanced_repeats(repeats: Sequence[int], wanted: int) -> list[int]:
    """How often each regularisation picture is seen in an epoch, so that all together are about `wanted` visits.

    kohya's rule (sd-scripts 48d368fa, DreamBoothDataset): in order, each with its own repeats, until there are enough;
    the rest is left out (0). If all are too few, each in turn is seen once more until there are enough."""
    balanced, total = [], 0
    for times in repeats:
        balanced.append(times if total < wanted else 0)
        total += balanced[-1]
    more, rest = divmod(max(0, wanted - total), len(repeats))
    return [times + more + (place < rest) for place, times in enumerate(balanced)]
