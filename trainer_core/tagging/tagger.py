"""The WD family of taggers, v1.4 to v3, and cl_tagger, through onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from .model_files import CSV_FILE, ModelFiles
from .preprocess import centred_on_zero, tagger_input
from .vocabulary import Vocabulary, read_vocabulary

_USUAL_SIDE = 448
_PROVIDERS = ("CUDAExecutionProvider", "ROCMExecutionProvider", "CPUExecutionProvider")


class Tagger:
    """A loaded tagger: pictures in, a probability for each of its tags out."""

    def __init__(self, files: ModelFiles):
        """Raises DataError where onnxruntime is missing, the model cannot be loaded, or its tags do not fit it."""
        self.is_wd = files.tags.name == CSV_FILE
        self.vocabulary: Vocabulary = read_vocabulary(files.tags)
        self._files = files
        self._session = _session(files)
        self._input = self._session.get_inputs()[0]
        batch, *rest = self._input.shape  # numbers, or names and None for what is left open
        height = rest[0] if self.is_wd else rest[1]
        self._side = height if isinstance(height, int) else _USUAL_SIDE
        self._fixed_batch = batch if isinstance(batch, int) else None
        outputs = self._session.get_outputs()[0].shape[-1]
        self._check(outputs if isinstance(outputs, int) else None)

    def probabilities(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """[B, outputs] fp32, 0 to 1, for RGB pictures of any sizes.

        WD's ONNX models take blue first, 0 to 255, channels last, and give probabilities; cl_tagger takes -1 to 1,
        channels first, and gives logits. A model with a fixed batch size gets batches of that size."""
        size = self._fixed_batch or len(pictures)
        parts = [self._once(pictures[start : start + size], size) for start in range(0, len(pictures), size)]
        found = np.concatenate(parts)
        self._check(found.shape[1])
        return found

    def _once(self, pictures: Sequence[Image.Image], size: int) -> np.ndarray:
        batch = np.stack([tagger_input(picture, self._side) for picture in pictures])
        filling = np.zeros((size - len(pictures), *batch.shape[1:]), np.float32)
        batch = np.concatenate([batch, filling])
        output = self._session.run(None, {self._input.name: batch if self.is_wd else centred_on_zero(batch)})[0]
        found = np.asarray(output, np.float32)[: len(pictures)]
        return found if self.is_wd else 1 / (1 + np.exp(-found))

    def _check(self, outputs: int | None) -> None:
        """WD lists every output, cl_tagger may leave some out; a list that names others belongs to another model."""
        if outputs is None:
            return
        needed = max(self.vocabulary, default=-1) + 1
        if needed > outputs or (self.is_wd and needed != outputs):
            raise DataError(
                f"{self._files.tags} lists {needed} tags, but the model gives {outputs}; "
                "take both files from the same repository"
            )


def _session(files: ModelFiles) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise DataError("the tagger needs onnxruntime; pip install onnxruntime (or onnxruntime-gpu)") from None
    available = set(onnxruntime.get_available_providers())
    try:
        return onnxruntime.InferenceSession(
            str(files.model), providers=[each for each in _PROVIDERS if each in available]
        )
    except Exception as error:  # onnxruntime's own exceptions share no base class
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{files.model} cannot be loaded as an ONNX model ({reason}); download it again") from error
