from ldm.modules.encoders import END, START, word_ids
from modules import sd_hijack_clip


class FrozenOpenCLIPEmbedderWithCustomWords(sd_hijack_clip.FrozenCLIPEmbedderWithCustomWordsBase):
    id_start, id_end, id_pad = START, END, 0

    def tokenize(self, texts):
        return [word_ids(text) for text in texts]

    def encode_with_transformers(self, tokens):
        found = self.wrapped.encode_with_transformer(tokens)
        if not isinstance(found, dict):
            return found
        hidden = found[self.wrapped.layer]
        hidden.pooled = found["pooled"]
        return hidden
