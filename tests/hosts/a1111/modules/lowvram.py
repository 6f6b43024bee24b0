"""--medvram: each part of the model comes to the device when it is called, and sends the one before it away."""

from modules import devices, shared

module_in_gpu = None


def send_everything_to_cpu():
    global module_in_gpu
    if module_in_gpu is not None:
        module_in_gpu.to(devices.cpu)
    module_in_gpu = None


def is_needed(sd_model):
    return shared.cmd_opts.lowvram or shared.cmd_opts.medvram


def is_enabled(sd_model):
    return sd_model.lowvram


def apply(sd_model):
    sd_model.lowvram = False
    if is_needed(sd_model):
        setup_for_low_vram(sd_model)


def setup_for_low_vram(sd_model):
    sd_model.lowvram = True

    def send_me_to_gpu(module, _):
        global module_in_gpu
        if module_in_gpu is module:
            return
        if module_in_gpu is not None:
            module_in_gpu.to(devices.cpu)
        module.to(devices.device)
        module_in_gpu = module

    vae = sd_model.first_stage_model
    encode, decode = vae.encode, vae.decode

    def encode_wrap(x):
        send_me_to_gpu(vae, None)
        return encode(x)

    def decode_wrap(z):
        send_me_to_gpu(vae, None)
        return decode(z)

    vae.encode, vae.decode = encode_wrap, decode_wrap
    texts = getattr(sd_model, "conditioner", None) or sd_model.cond_stage_model
    if hasattr(texts, "model"):
        texts = texts.model.token_embedding
    for part in (texts, vae, sd_model.model):
        part.register_forward_pre_hook(send_me_to_gpu)
