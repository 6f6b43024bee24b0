"""Euler (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn) with classifier-free guidance."""

from itertools import pairwise

import torch
from modules import prompt_parser, shared


class InterruptedException(BaseException):
    pass


class CompVisDenoiser:
    """Denoised pictures from a model that predicts noise or velocity."""

    def __init__(self, model):
        alphas = model.alphas_cumprod.float()
        self.model, self.sigmas = model, ((1 - alphas) / alphas).sqrt()

    def __call__(self, x, sigma, cond):
        t = (self.sigmas.log()[:, None] - sigma.log()[None]).abs().argmin(0)
        s = sigma.view(-1, 1, 1, 1)
        scaled = x / (s**2 + 1).sqrt()
        found = self.model.apply_model(scaled, t, cond)
        if self.model.parameterization == "v":
            return (scaled - found * s) / (s**2 + 1).sqrt()
        return x - found * s


class Sampler:
    def __init__(self, model):
        self.model_wrap, self.last_latent = CompVisDenoiser(model), None

    def callback_state(self, at):
        shared.state.sampling_step = at["i"]
        shared.total_tqdm.update()

    def sample(self, p, x, conditioning, unconditional_conditioning, steps=None, image_conditioning=None):
        times = torch.linspace(len(self.model_wrap.sigmas) - 1, 0, p.steps).long()
        sigmas = torch.cat([self.model_wrap.sigmas[times], torch.zeros(1)])
        shared.state.sampling_steps, shared.state.sampling_step = p.steps, 0
        try:
            return self._euler(x * sigmas[0], sigmas, conditioning, unconditional_conditioning, p.cfg_scale)
        except InterruptedException:
            return self.last_latent

    def _euler(self, x, sigmas, cond, uncond, cfg_scale):
        self.last_latent = x
        for number, (sigma, following) in enumerate(pairwise(sigmas)):
            if shared.state.interrupted or shared.state.skipped:
                raise InterruptedException
            with_text = self._denoised(x, sigma, prompt_parser.reconstruct_multicond_batch(cond, number))
            without = self._denoised(x, sigma, prompt_parser.reconstruct_cond_batch(uncond, number))
            denoised = without + (with_text - without) * cfg_scale
            self.callback_state({"x": x, "i": number, "denoised": denoised})
            x = self.last_latent = x + (x - denoised) / sigma * (following - sigma)
        return x

    def _denoised(self, x, sigma, cond):
        return self.model_wrap(x, sigma.repeat(len(x)), cond if isinstance(cond, dict) else {"c_crossattn": [cond]})


def create_sampler(name, model):
    assert name == "Euler", f"bad sampler name: {name}"
    return Sampler(model)
