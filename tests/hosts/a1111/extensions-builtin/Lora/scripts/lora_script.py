import networks
from modules import extra_networks, script_callbacks


class ExtraNetworkLora:
    def activate(self, p, found):
        weights = [float(each.items[1]) if len(each.items) > 1 else 1.0 for each in found]
        networks.load_networks([each.items[0] for each in found], weights, weights)


if not hasattr(networks, "is_patched"):
    networks.patch_torch()
    networks.is_patched = True
script_callbacks.on_model_loaded(networks.assign_network_names_to_compvis_modules)
script_callbacks.on_before_ui(lambda: extra_networks.register_extra_network("lora", ExtraNetworkLora()))
