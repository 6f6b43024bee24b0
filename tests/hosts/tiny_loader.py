"""A node for the tests alone: loads a checkpoint whose text encoders have fewer layers than the real ones.

ComfyUI builds text encoders by fixed configurations; SDXL's second has 695 million weights, too many for tests."""

import comfy.sd
import folder_paths


class TinyCheckpointLoader:
    """CheckpointLoaderSimple for checkpoints with thin text encoders."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        names = folder_paths.get_filename_list("checkpoints")
        return {"required": {"ckpt_name": (names,), "text_layers": ("INT", {"default": 3, "min": 3, "max": 32})}}

    def load(self, ckpt_name, text_layers):
        return load_tiny(folder_paths.get_full_path_or_raise("checkpoints", ckpt_name), text_layers)


def load_tiny(path, text_layers, text_dtype=None):
    """MODEL, CLIP and VAE of a checkpoint with `text_layers` layers in each text encoder.

    text_dtype: how the text encoders' weights are stored; ComfyUI's own choice when left out."""
    options = {f"clip_{name}_model_config": {"num_hidden_layers": text_layers} for name in "lgh"}
    return comfy.sd.load_checkpoint_guess_config(str(path), te_model_options={**options, "dtype": text_dtype})[:3]


NODE_CLASS_MAPPINGS = {"TinyCheckpointLoader": TinyCheckpointLoader}
