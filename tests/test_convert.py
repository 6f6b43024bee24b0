"""Files become what more programs load, by the command line, and do what they did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trainer_core.cli import main
from trainer_core.config import NetworkConfig
from trainer_core.demo.run import WORLD
from trainer_core.files.lora_file import load_lora, save_lora
from trainer_core.hosts.diffusers import load_host
from trainer_core.networks import build_network


@pytest.fixture(scope="module")
def host():
    return load_host(WORLD, "cpu")


def trained(host, path: Path, metadata: dict[str, str], **settings):
    network = build_network(NetworkConfig(**settings), host.components(), host.family, seed=0)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for adapter in network.adapters:
            for parameter in adapter.parameters.values():
                parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
    save_lora(path, network.state_dict(), metadata)
    return network


def test_ia3_becomes_the_differences_that_every_loader_adds(host, tmp_path: Path, capsys) -> None:
    network = trained(host, tmp_path / "x.safetensors", {"ss_network_args": '{"algo": "ia3"}'}, algo="ia3")
    assert (
        main(["convert", str(tmp_path / "x.safetensors"), str(tmp_path / "full.safetensors"), "--model", str(WORLD)])
        == 0
    )
    assert "wrote" in capsys.readouterr().out
    tensors, metadata = load_lora(tmp_path / "full.safetensors")
    deltas = network.delta_weights()
    assert tensors.keys() == {f"{key}.diff" for key in deltas}
    for key, delta in deltas.items():
        torch.testing.assert_close(tensors[f"{key}.diff"].float(), delta, rtol=1e-3, atol=1e-6)
    assert json.loads(metadata["ss_network_args"]) == {"algo": "full"}


def test_a_dylora_becomes_a_lora_of_each_trained_rank(host, tmp_path: Path) -> None:
    arguments = {"algo": "dylora", "conv_dim": "8", "conv_alpha": "2", "block_size": "4"}
    metadata = {"ss_network_dim": "8", "ss_network_alpha": "2", "ss_network_args": json.dumps(arguments)}
    trained(host, tmp_path / "x.safetensors", metadata, algo="dylora", rank=8, alpha=2)
    assert main(["convert", str(tmp_path / "x.safetensors"), str(tmp_path / "r4.safetensors"), "--rank", "4"]) == 0
    tensors, metadata = load_lora(tmp_path / "r4.safetensors")
    assert {each.shape[0] for key, each in tensors.items() if key.endswith("lora_down.weight")} == {4}
    assert metadata["ss_network_module"] == "networks.lora" and metadata["ss_network_dim"] == "4"
    assert float(metadata["ss_network_alpha"]) == pytest.approx(2 / 2**0.5, rel=1e-4)
    assert json.loads(metadata["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "1.41421"}
    again = build_network(NetworkConfig(algo="locon", rank=4, alpha=2 / 2**0.5), host.components(), host.family, 0)
    again.load_state_dict(tensors)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "say what it becomes"),
        (["--rank", "3"], "3 is none of them"),
        (["--rank", "16"], "16 is none of them"),
        (["--model", str(WORLD)], "no (IA)³ file"),
    ],
)
def test_what_cannot_be_converted_is_answered_in_one_sentence(host, flags, words, tmp_path: Path, capsys) -> None:
    metadata = {"ss_network_dim": "8", "ss_network_args": '{"algo": "dylora"}'}
    trained(host, tmp_path / "x.safetensors", metadata, algo="dylora", rank=8)
    assert main(["convert", str(tmp_path / "x.safetensors"), str(tmp_path / "y.safetensors"), *flags]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "y.safetensors").exists()


def test_a_lora_is_not_cut_as_if_its_ranks_were_nested(host, tmp_path: Path, capsys) -> None:
    trained(host, tmp_path / "x.safetensors", {}, algo="lora", rank=8)
    assert main(["convert", str(tmp_path / "x.safetensors"), str(tmp_path / "y.safetensors"), "--rank", "4"]) == 1
    assert "was not trained as a DyLoRA" in capsys.readouterr().err
