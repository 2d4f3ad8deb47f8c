"""Makes the PyTorch goldens of transformers over patches: vit/NAME/{config.json, model.safetensors, golden.json}.

usage: PYTHON make_vit.py

Made with torch 2.11, transformers 4.57, safetensors 0.8 on one thread. Everything written is a function of the seeds below: a
second run on the same machine writes the same bytes.

cls                transformers' ViTForImageClassification
mean               the same body (transformers' ViTModel), its head reading the mean of all tokens
patch-transformer  `Forecaster` below: PatchTST's form in the names of config.json

golden.json  inputs (pictures channels last), targets, outputs, loss and all gradients (f64 arithmetic); `losses`: ten AdamW
             steps on the same batch, the loss before each (learning rate 0.003, betas 0.9 0.999, epsilon 1e-8, weight decay
             0.01 on all parameters, no clipping)
"""
import json
import os
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from make import rounded

HERE = os.path.dirname(os.path.abspath(__file__))
VIT_KEYS = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
            "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps", "image_size",
            "patch_size", "num_channels", "qkv_bias", "id2label", "label2id", "rgft_pooling")


# ---- pictures ----


class MeanPooled(nn.Module):
    """a ViT whose classifier reads the mean of all tokens behind the last norm"""

    def __init__(self, config):
        super().__init__()
        whole = ViTForImageClassification(config)
        self.vit, self.classifier = whole.vit, whole.classifier

    def forward(self, pixels):
        return self.classifier(self.vit(pixels).last_hidden_state.mean(1))


class ClassToken(ViTForImageClassification):
    def forward(self, pixels):
        return super().forward(pixels).logits


def vit_config(**more):
    return ViTConfig(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, num_labels=3,
                     initializer_range=0.2, attn_implementation="eager", **more)


def pictures(height, width, channels, generator):
    pixels = torch.randn(4, height, width, channels, generator=generator).double()
    targets = torch.tensor([0, 2, 1, 2])
    return pixels.permute(0, 3, 1, 2), pixels, targets, lambda z: F.cross_entropy(z, targets)


# ---- series ----


class Attention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(hidden, hidden) for _ in range(4))

    def forward(self, x):
        n, tokens, hidden = x.shape
        q, k, v = (f(x).view(n, tokens, self.heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        return self.output((weights @ v).transpose(1, 2).reshape(n, tokens, hidden))


class FeedForward(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.up, self.down = nn.Linear(hidden, inner), nn.Linear(inner, hidden)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden = config["hidden_size"]
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention = Attention(hidden, config["num_heads"])
        self.feed_forward = FeedForward(hidden, config["ffn"])

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Forecaster(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden, patch, stride = config["hidden_size"], config["patch"], config["stride"]
        tokens = (config["context"] - patch) // stride + 1
        self.skipped = config["context"] - (patch + (tokens - 1) * stride)
        self.embeddings = nn.ModuleDict({"patches": nn.Linear(patch, hidden), "positions": nn.Embedding(tokens, hidden)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config["num_layers"]))})
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(tokens * hidden, config["horizon"])

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        deviation = (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        x = ((x - mean) / deviation)[:, self.skipped:]
        patches = x.unfold(1, self.config["patch"], self.config["stride"])
        x = self.embeddings["patches"](patches) + self.embeddings["positions"].weight
        for layer in self.encoder["layer"]:
            x = layer(x)
        return self.head(self.norm(x).flatten(1)) * deviation + mean


def windows(config, generator):
    steps = torch.arange(config["context"] + config["horizon"])
    level, slope = torch.randn(5, 1, generator=generator), torch.randn(5, 1, generator=generator)
    noise = torch.randn(5, len(steps), generator=generator)
    values = (2 * level + 0.1 * slope * steps + torch.sin(0.7 * steps + level) + 0.1 * noise).float().double()
    x, y = values[:, :config["context"]], values[:, config["context"]:]
    return x, x, y, lambda z: F.mse_loss(z, y)


# ---- both ----


def networks():
    """name, network, config.json, batch"""
    def generator(seed):
        return torch.Generator().manual_seed(seed)

    # Wider than high, so that rows and columns of patches cannot be confused.
    config = vit_config(image_size=[4, 6], patch_size=2, num_channels=3)
    yield "cls", lambda: ClassToken(config), config.to_dict(), pictures(4, 6, 3, generator(101))
    config = vit_config(image_size=6, patch_size=3, num_channels=2, hidden_act="relu")
    document = {**config.to_dict(), "rgft_pooling": "mean"}
    yield "mean", lambda: MeanPooled(config), document, pictures(6, 6, 2, generator(102))
    document = dict(model_type="patch-transformer", context=16, horizon=5, patch=5, stride=3, hidden_size=12, num_layers=2,
                    num_heads=3, ffn=20)
    yield "patch-transformer", lambda: Forecaster(document), document, windows(document, generator(103))


def main():
    torch.set_num_threads(1)
    for seed, (name, make, config, (x, document, y, loss_of)) in enumerate(networks(), start=1):
        torch.manual_seed(seed)
        net = make()
        with torch.no_grad():  # as initialised, biases are 0 and norms 1: too many mistakes would hide there
            for parameter_name, parameter in net.named_parameters():
                centre = 1.0 if "norm" in parameter_name and parameter_name.endswith("weight") else 0.0
                parameter.copy_(centre + (0.1 if parameter.dim() == 1 else 0.2) * torch.randn_like(parameter))
        folder = os.path.join(HERE, "vit", name)
        os.makedirs(folder, exist_ok=True)
        weights = {n: p.detach().clone().contiguous() for n, p in net.named_parameters()}
        save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
        config = {key: value for key, value in config.items() if name == "patch-transformer" or key in VIT_KEYS}
        with open(f"{folder}/config.json", "w", encoding="utf-8") as out:
            json.dump(config, out, indent=1)
            out.write("\n")

        net = net.double().eval()
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.003, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        golden, losses = {}, []
        for step in range(10):
            optimizer.zero_grad(set_to_none=True)
            outputs = net(x)
            loss = loss_of(outputs)
            loss.backward()
            if step == 0:
                gradients = {n: rounded(p.grad, 7) for n, p in net.named_parameters()}
                golden = {"shape": list(document.shape), "inputs": rounded(document.flatten()), "targets": y.tolist(),
                          "outputs": rounded(outputs), "loss": rounded(loss.item()), "gradients": gradients}
            losses.append(rounded(loss.item()))
            optimizer.step()
        golden["losses"] = losses
        with open(f"{folder}/golden.json", "w", encoding="utf-8") as out:
            lines = (f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in golden.items())
            out.write("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{os.path.getsize(f'{folder}/golden.json'):8} {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
