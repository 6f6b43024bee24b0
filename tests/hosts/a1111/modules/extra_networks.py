"""<kind:name:weight> in prompts."""

import re
from collections import defaultdict

extra_network_registry = {}
_TAG = re.compile(r"<(\w+):([^>]+)>")


class ExtraNetworkParams:
    def __init__(self, items):
        self.items = items


def register_extra_network(name, extra_network):
    extra_network_registry[name] = extra_network


def parse_prompts(prompts):
    found = defaultdict(list)
    for kind, arguments in _TAG.findall(prompts[0]):
        found[kind].append(ExtraNetworkParams(arguments.split(":")))
    return [_TAG.sub("", prompt) for prompt in prompts], found


def activate(p, found):
    for name, network in extra_network_registry.items():
        network.activate(p, found.get(name, []))
