"""Conditioning as samplers take it; a prompt is one text from the first step to the last."""

from collections import namedtuple

import torch

ScheduledPromptConditioning = namedtuple("ScheduledPromptConditioning", ["end_at_step", "cond"])


class SdConditioning(list):
    def __init__(self, prompts, is_negative_prompt=False, width=None, height=None):
        super().__init__(prompts)
        self.is_negative_prompt, self.width, self.height = is_negative_prompt, width, height


class ComposableScheduledPromptConditioning:
    def __init__(self, schedules, weight=1.0):
        self.schedules, self.weight = schedules, weight


class MulticondLearnedConditioning:
    def __init__(self, shape, batch):
        self.shape, self.batch = shape, batch


def get_learned_conditioning(model, prompts, steps):
    conds = model.get_learned_conditioning(prompts)
    each = [
        {name: values[number] for name, values in conds.items()} if isinstance(conds, dict) else conds[number]
        for number in range(len(prompts))
    ]
    return [[ScheduledPromptConditioning(steps, cond)] for cond in each]


def get_multicond_learned_conditioning(model, prompts, steps):
    schedules = get_learned_conditioning(model, prompts, steps)
    batch = [[ComposableScheduledPromptConditioning(each)] for each in schedules]
    return MulticondLearnedConditioning((len(prompts),), batch)


def reconstruct_cond_batch(schedules, step):
    found = [next(each.cond for each in schedule if step <= each.end_at_step) for schedule in schedules]
    if isinstance(found[0], dict):
        return {name: torch.stack([each[name] for each in found]) for name in found[0]}
    return torch.stack(found)


def reconstruct_multicond_batch(multicond, step):
    return reconstruct_cond_batch([each[0].schedules for each in multicond.batch], step)
