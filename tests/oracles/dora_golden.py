"""What PEFT merges of a DoRA adapter: the numbers in tests/converter/adapter_test.cc. Needs torch and peft (0.21.2)."""

import peft
import torch
from safetensors.torch import load_file
import tempfile


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(3, 2, bias=False)
        self.q_proj.weight.data = torch.ones(2, 3)


config = peft.LoraConfig(r=1, lora_alpha=2, use_dora=True, target_modules=["q_proj"])
model = peft.get_peft_model(Model(), config)
layer = model.base_model.model.q_proj
layer.lora_A["default"].weight.data = torch.tensor([[1.0, 0, -2]])
layer.lora_B["default"].weight.data = torch.tensor([[1.0], [3.0]])
layer.lora_magnitude_vector["default"].weight.data = torch.tensor([2.0, 5.0])
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    for name, tensor in load_file(folder + "/adapter_model.safetensors").items():
        print(name, list(tensor.shape))
    print(open(folder + "/adapter_config.json").read()[:600])
print(model.merge_and_unload().q_proj.weight.tolist())
