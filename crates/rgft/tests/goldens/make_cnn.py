"""Makes the PyTorch goldens of convolutional networks: cnn/NAME/ for four tiny random models.

usage: PYTHON make_cnn.py [--assets DIR]

--assets DIR  holds models/resnet20-cifar10 and resnet32-cifar10, whose logits for two pictures made by a formula become
              cnn/resnet20-cifar10.json and cnn/resnet32-cifar10.json

Each folder holds config.json and model.safetensors of a model, and golden.safetensors: a batch of pictures (channels last)
with targets, logits in evaluation mode, and of the first training step the loss, all gradients and the running statistics
after it; then the losses of ten AdamW steps on that batch. Computed in float64, written as float32, on one thread, with
torch 2.11: a second run on the same machine writes the same bytes.
"""
import argparse
import json
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
CLASSES = 5
EXAMPLES = 6
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 0.01


class Pad(nn.Module):
    """Option A: every second pixel, zero channels on both sides."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.channels // 2, self.channels - self.channels // 2))


def projection(i, o, stride):
    return nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))


class Basic(nn.Module):
    def __init__(self, i, w, stride, pad):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, w, 3, stride, 1, bias=False), nn.BatchNorm2d(w)
        self.conv2, self.bn2 = nn.Conv2d(w, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w)
        if stride != 1 or i != w:
            self.downsample = Pad(w - i) if pad else projection(i, w, stride)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Bottleneck(nn.Module):
    def __init__(self, i, w, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, w, 1, bias=False), nn.BatchNorm2d(w)
        self.conv2, self.bn2 = nn.Conv2d(w, w, 3, stride, 1, bias=False), nn.BatchNorm2d(w)
        self.conv3, self.bn3 = nn.Conv2d(w, 4 * w, 1, bias=False), nn.BatchNorm2d(4 * w)
        if stride != 1 or i != 4 * w:
            self.downsample = projection(i, 4 * w, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Cifar(nn.Module):
    def __init__(self, widths, n, pad, classes=CLASSES):
        super().__init__()
        c = widths[0]
        self.conv1, self.bn1 = nn.Conv2d(3, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
        for s, w in enumerate(widths):
            blocks = [Basic(c if b == 0 else w, w, 2 if b == 0 and s > 0 else 1, pad) for b in range(n)]
            setattr(self, f"layer{s + 1}", nn.Sequential(*blocks))
            c = w
        self.linear = nn.Linear(c, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


class ImageNet(nn.Module):
    def __init__(self, widths, depths):
        super().__init__()
        c = widths[0]
        self.conv1, self.bn1 = nn.Conv2d(3, c, 7, 2, 3, bias=False), nn.BatchNorm2d(c)
        for s, (w, n) in enumerate(zip(widths, depths)):
            blocks = []
            for b in range(n):
                blocks.append(Bottleneck(c, w, 2 if b == 0 and s > 0 else 1))
                c = 4 * w
            setattr(self, f"layer{s + 1}", nn.Sequential(*blocks))
        self.stages = len(depths)
        self.fc = nn.Linear(c, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for s in range(self.stages):
            x = getattr(self, f"layer{s + 1}")(x)
        return self.fc(x.mean((2, 3)))


def unit(i, o, kernel=3, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o), nn.ReLU6())


class Inverted(nn.Module):
    def __init__(self, i, o, stride, expansion):
        super().__init__()
        inner = i * expansion
        expand = [unit(i, inner, 1)] if expansion > 1 else []
        self.residual = stride == 1 and i == o
        self.conv = nn.Sequential(*expand, unit(inner, inner, 3, stride, inner), nn.Conv2d(inner, o, 1, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, stem, setting, last):
        super().__init__()
        c, features = stem, [unit(3, stem, 3, 2)]
        for t, o, n, s in setting:
            for b in range(n):
                features.append(Inverted(c, o, s if b == 0 else 1, t))
                c = o
        self.features = nn.Sequential(*features, unit(c, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(last, CLASSES))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def models():
    common = {"num_labels": CLASSES, "num_channels": 3, "batch_norm_eps": 1e-5}
    for name, pad in (("resnet-cifar-pad", True), ("resnet-cifar-projection", False)):
        shortcut = "option-a-pad" if pad else "option-b-projection"
        config = {"model_type": "resnet-cifar", "depth": 8, "widths": [4, 4, 6], "shortcut": shortcut, **common}
        yield name, Cifar([4, 4, 6], 1, pad), config, (9, 11)
    widths, depths = [4, 4], [2, 1]
    config = {"model_type": "resnet", "block": "bottleneck", "widths": widths, "depths": depths, **common}
    yield "resnet-bottleneck", ImageNet(widths, depths), config, (18, 17)
    setting = [[1, 8, 1, 1], [3, 8, 2, 2]]
    config = {"model_type": "mobilenet_v2", "stem_channels": 8, "last_channel": 16, "dropout": 0.0,
              "inverted_residual_setting": setting, **common}
    yield "mobilenet_v2", MobileNetV2(8, setting, 16), config, (12, 11)


def pre_trained(assets):
    values = [math.sin(0.37 * (i % 97) + 0.011 * i) for i in range(2 * 32 * 32 * 3)]
    x = torch.tensor(values, dtype=torch.float32).double().view(2, 32, 32, 3).permute(0, 3, 1, 2)
    for n, name in ((3, "resnet20-cifar10"), (5, "resnet32-cifar10")):
        net = Cifar([16, 32, 64], n, True, classes=10).double().eval()
        net.load_state_dict(load_file(f"{assets}/models/{name}/model.safetensors"), strict=False)
        with open(os.path.join(HERE, "cnn", f"{name}.json"), "w", encoding="utf-8") as file:
            file.write(json.dumps([round(z, 6) for z in net(x).flatten().tolist()]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.assets:
        pre_trained(args.assets)
    torch.manual_seed(0)
    for seed, (name, net, config, (height, width)) in enumerate(models(), start=1):
        torch.manual_seed(seed)
        net = net.double()
        with torch.no_grad():  # as initialised, norms are 1 and 0 and statistics too: mistakes would hide there
            for parameter in net.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
                else:
                    parameter.copy_(torch.randn_like(parameter) * (2 / parameter[0].numel()) ** 0.5)
            for m in net.modules():
                if isinstance(m, nn.BatchNorm2d):
                    m.running_mean.normal_(0, 0.3)
                    m.running_var.uniform_(0.5, 1.5)
        folder = os.path.join(HERE, "cnn", name)
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
            file.write(json.dumps(config, indent=1) + "\n")
        stored = {k: v.float().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
        save_file(stored, f"{folder}/model.safetensors", metadata={"format": "pt"})
        net.load_state_dict({k: v.double() if v.is_floating_point() else v for k, v in stored.items()})
        x = torch.randn(EXAMPLES, 3, height, width).float().double()
        targets = torch.arange(EXAMPLES) * 2 % CLASSES
        golden = {"pixels": x.permute(0, 2, 3, 1), "targets": targets.double(), "logits": net.eval()(x)}
        net.train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=WEIGHT_DECAY)
        losses = []
        for step in range(10):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(net(x), targets)
            loss.backward()
            if step == 0:
                golden |= {f"gradient.{n}": p.grad for n, p in net.named_parameters()}
                golden |= {f"after.{n}": b.clone() for n, b in net.named_buffers() if b.is_floating_point()}
            optimizer.step()
            losses.append(loss.item())
        golden["losses"] = torch.tensor(losses)
        save_file({k: v.detach().float().contiguous() for k, v in golden.items()}, f"{folder}/golden.safetensors")
        print(name, [round(loss, 4) for loss in losses], sum(os.path.getsize(f"{folder}/{f}") for f in os.listdir(folder)))


if __name__ == "__main__":
    main()
