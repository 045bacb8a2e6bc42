#!/usr/bin/env python3
"""Writes tests/data/lora/peft.json with the real library, for the golden test of src/target/lora.

    python tests/interop/make_lora_merges.py      (peft 0.21.2, torch 2.15 on a CPU)

`base`   the weights of a model of two layers, by name: shape and numbers of at most three decimals.
`cases`  adapters: what adapter_config.json says, the arrays as PEFT saves them, and the weights that it merges, F32.
"""
import copy
import json
import pathlib

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model, get_peft_model_state_dict

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "lora" / "peft.json"
LAYERS = ["fc", "conv"]
CASES = {
    "lora, rank-stabilized": LoraConfig(r=2, lora_alpha=3, use_rslora=True, alpha_pattern={"conv": 1}, target_modules=LAYERS),
    "dora": LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=LAYERS),
    "loha": LoHaConfig(r=2, alpha=3, use_effective_conv2d=True, target_modules=LAYERS),
    "lokr": LoKrConfig(r=1, alpha=3, decompose_both=True, use_effective_conv2d=True, target_modules=LAYERS),
}
SETTINGS = ("r", "lora_alpha", "alpha", "use_rslora", "rank_pattern", "alpha_pattern")


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(8, 6, bias=False)
        self.conv = torch.nn.Conv2d(4, 6, 3, bias=False)

    def forward(self, x):
        return x


def short(tensor):
    return (tensor * 1000).round() / 1000


def arrays(state):
    return {k: {"shape": list(v.shape), "data": [round(float(x), 3) for x in v.flatten()]} for k, v in state.items()}


@torch.no_grad()
def case(name, config, model):
    model = get_peft_model(copy.deepcopy(model), config)
    for path, parameter in model.named_parameters():
        if any(part in path for part in ("lora_A", "lora_B", "hada_", "lokr_")):
            parameter.copy_(short(torch.randn_like(parameter) * 0.3))
        if "magnitude" in path:
            parameter.copy_(short(parameter * (1 + 0.1 * torch.randn_like(parameter))))
    settings = {key: value for key, value in config.to_dict().items() if key in SETTINGS}
    adapter = arrays(get_peft_model_state_dict(model))
    merged = model.merge_and_unload().state_dict()
    merged = {k: [float(f"{float(x):.8g}") for x in v.flatten()] for k, v in merged.items()}
    return {"name": name, "config": settings, "arrays": adapter, "merged": merged}


torch.manual_seed(7)
base = Model()
with torch.no_grad():
    for weight in base.parameters():
        weight.copy_(short(torch.randn_like(weight) * 0.3))
out = {"base": arrays(base.state_dict()), "cases": [case(name, config, base) for name, config in CASES.items()]}
OUT.parent.mkdir(parents=True, exist_ok=True)
OUT.write_text(json.dumps(out, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
