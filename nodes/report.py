"""A dataset in words, for the nodes' text outputs."""

from __future__ import annotations

from collections import Counter

from ..trainer_core.config import DatasetConfig
from ..trainer_core.data.buckets import assign_buckets, bucket_warnings
from ..trainer_core.data.examples import Dataset
from ..trainer_core.telling import many


def describe_dataset(dataset: Dataset, config: DatasetConfig) -> str:
    """Counts, buckets and warnings, a line each. Raises ConfigError for bucket settings that contradict each other."""
    examples = dataset.examples
    placements = assign_buckets([each.size for each in examples], config)
    pictures = Counter(placement.bucket for placement in placements)
    lines = [f"{many(len(dataset.subjects), 'picture')}, {dataset.num_train_images} per epoch with repeats"]
    for folder, entry in dataset.dirs().items():
        lines.append(f"{folder}: {many(entry['img_count'], 'picture')}, {entry['n_repeats']}× each")
    if others := [each for each in examples if each.is_reg]:
        visits = sum(each.repeats for each in others)
        lines.append(f"regularisation: {many(len(others), 'picture')}, {visits} per epoch")
    for width, height in sorted(pictures):
        lines.append(f"bucket {width}×{height}: {many(pictures[width, height], 'picture')}")
    warnings = dict.fromkeys((*dataset.warnings, *bucket_warnings(config)))
    return "\n".join([*lines, *(f"⚠ {warning}" for warning in warnings)])
