import torch


class ImageRNG:
    """Noise for each picture of a batch, from its own seed."""

    def __init__(self, shape, seeds):
        self.shape, self.generators = tuple(shape), [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def next(self):
        return torch.stack([torch.randn(self.shape, generator=each) for each in self.generators])
