"""The wrapper that reads prompts of any length in chunks of 75 tokens; here without emphasis."""

import torch
from modules import shared
from torch import nn


class FrozenCLIPEmbedderWithCustomWordsBase(nn.Module):
    chunk_length = 75

    def __init__(self, wrapped, hijack):
        super().__init__()
        self.wrapped, self.hijack = wrapped, hijack
        self.input_key = getattr(wrapped, "input_key", "txt")
        self.is_trainable = getattr(wrapped, "is_trainable", False)

    def forward(self, texts):
        chunks = [self._chunks(ids) for ids in self.tokenize(list(texts))]
        longest = max(map(len, chunks))
        encoded = []
        for number in range(longest):
            rows = [each[number] if number < len(each) else self._row([]) for each in chunks]
            self.hijack.fixes = [[] for _ in rows]
            encoded.append(self.encode_with_transformers(torch.tensor(rows)))
        if getattr(self.wrapped, "return_pooled", False):
            return torch.hstack(encoded), encoded[0].pooled
        return torch.hstack(encoded)

    def _chunks(self, ids):
        return [self._row(ids[at : at + 75]) for at in range(0, max(1, len(ids)), 75)]

    def _row(self, ids):
        return [self.id_start, *ids, self.id_end, *[self.id_pad] * (75 - len(ids))]


class FrozenCLIPEmbedderWithCustomWords(FrozenCLIPEmbedderWithCustomWordsBase):
    def __init__(self, wrapped, hijack):
        super().__init__(wrapped, hijack)
        self.id_start, self.id_end = wrapped.tokenizer.bos_token_id, wrapped.tokenizer.eos_token_id
        self.id_pad = self.id_end

    def tokenize(self, texts):
        return self.wrapped.tokenizer(texts, truncation=False, add_special_tokens=False)["input_ids"]

    def encode_with_transformers(self, tokens):
        skip = shared.opts.CLIP_stop_at_last_layers
        outputs = self.wrapped.transformer(input_ids=tokens, output_hidden_states=True)
        if skip == 1:
            return outputs.last_hidden_state
        return self.wrapped.transformer.text_model.final_layer_norm(outputs.hidden_states[-skip])


class FrozenCLIPEmbedderForSDXLWithCustomWords(FrozenCLIPEmbedderWithCustomWords):
    def encode_with_transformers(self, tokens):
        outputs = self.wrapped.transformer(input_ids=tokens, output_hidden_states=True)
        return outputs.hidden_states[self.wrapped.layer_idx]
