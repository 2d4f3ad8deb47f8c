"""Makes the PyTorch goldens of recurrent networks: rnn/NAME/{config.json, model.safetensors, golden.json}.

usage: PYTHON make_rnn.py

Made with torch 2.11, safetensors 0.8 on one thread. Everything written is a function of the seeds below: a second run on the
same machine writes the same bytes.

golden.json  inputs, targets, outputs, loss and all gradients (f64 arithmetic); `losses`: ten AdamW steps on the same batch, the
             loss before each (learning rate 0.01, betas 0.9 0.999, epsilon 1e-8, weight decay 0.01 on all parameters, no clipping)

Sequences differ in length and go through torch's packed sequences. Means are over all tokens that have a target (-1: none).
"""
import json
import os
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from make import rounded

HERE = os.path.dirname(os.path.abspath(__file__))
EPSILON = 1e-5


class Net(torch.nn.Module):
    """All the networks of this family: tokens or windows, layers, a row per token or per sequence."""

    def __init__(self, config):
        super().__init__()
        cell, self.task = config["model_type"].split("-")
        self.config, self.both = config, config.get("bidirectional", False)
        hidden = config["hidden_size"]
        if self.task == "forecaster":
            inputs = config.get("patch", 1)
        else:
            inputs = config["embedding_size"]
            self.embedding = torch.nn.Embedding(config["vocab_size"], inputs)
        make = torch.nn.LSTM if cell == "lstm" else torch.nn.GRU
        self.rnn = make(inputs, hidden, config["num_layers"], batch_first=True, bidirectional=self.both)
        self.cell, self.head_name = cell, "classifier" if self.task == "classifier" else "head"
        outputs = {"lm": config.get("vocab_size"), "classifier": config.get("num_labels"), "forecaster": config.get("horizon")}
        self.out = torch.nn.Linear(hidden * (2 if self.both else 1), outputs[self.task])

    def name(self, name):
        """as it stands in model.safetensors"""
        return name.replace("rnn.", f"{self.cell}.", 1).replace("out.", f"{self.head_name}.", 1)

    def forward(self, inputs):
        if self.task == "forecaster":
            x = inputs
            if self.config.get("instance_norm"):
                mean = x.mean(1, keepdim=True)
                deviation = (x.var(1, unbiased=False, keepdim=True) + EPSILON).sqrt()
                x = (x - mean) / deviation
            h, _ = self.rnn(x.reshape(len(x), -1, self.config.get("patch", 1)))
            y = self.out(h[:, -1])
            return y * deviation + mean if self.config.get("instance_norm") else y
        lengths = torch.tensor([len(sequence) for sequence in inputs])
        padded = torch.zeros(len(inputs), max(lengths), dtype=torch.long)
        for row, sequence in enumerate(inputs):
            padded[row, :len(sequence)] = torch.tensor(sequence)
        packed = pack_padded_sequence(self.embedding(padded), lengths, batch_first=True, enforce_sorted=False)
        h, final = self.rnn(packed)
        h, _ = pad_packed_sequence(h, batch_first=True)
        rows = [h[i, :n] for i, n in enumerate(lengths)]
        if self.task == "lm":
            return self.out(torch.cat(rows))
        if self.config.get("pooling") == "last":
            final = final[0] if self.cell == "lstm" else final
            return self.out(torch.cat([final[-2], final[-1]], 1) if self.both else final[-1])
        return self.out(torch.stack([row.mean(0) for row in rows]))


def networks():
    text = dict(vocab_size=11, embedding_size=5, hidden_size=6)
    yield "lstm-lm", dict(model_type="lstm-lm", num_layers=2, gate_order="i,f,g,o", **text)
    yield "gru-lm", dict(model_type="gru-lm", num_layers=1, gate_order="r,z,n", **text)
    yield "lstm-classifier", dict(model_type="lstm-classifier", num_layers=2, bidirectional=True, num_labels=3, **text)
    yield "gru-classifier", dict(model_type="gru-classifier", num_layers=1, bidirectional=True, num_labels=3, pooling="last", **text)
    yield "gru-forecaster", dict(model_type="gru-forecaster", num_layers=2, hidden_size=6, context=12, horizon=4, instance_norm=True)
    yield "lstm-forecaster", dict(model_type="lstm-forecaster", num_layers=1, hidden_size=6, context=12, horizon=3, patch=3)


def batch(config, generator):
    """inputs as JSON, the network's inputs, targets as JSON, the loss"""
    task = config["model_type"].split("-")[1]
    if task == "forecaster":
        steps = torch.arange(config["context"] + config["horizon"])
        level, slope = torch.randn(5, 1, generator=generator), torch.randn(5, 1, generator=generator)
        noise = torch.randn(5, len(steps), generator=generator)
        values = (2 * level + 0.1 * slope * steps + torch.sin(0.7 * steps + level) + 0.1 * noise).float()
        x, y = values[:, :config["context"]].double(), values[:, config["context"]:].double()
        return x.tolist(), x, y.tolist(), lambda z: F.mse_loss(z, y)

    lengths = [4, 9, 1, 6]

    def numbers(end, count):
        return torch.randint(0, end, (count,), generator=generator)

    ids = [numbers(config["vocab_size"], n).tolist() for n in lengths]
    if task == "lm":
        targets = numbers(config["vocab_size"], sum(lengths))
        targets[torch.tensor([3, 12, 19])] = -1
    else:
        targets = numbers(config["num_labels"], len(lengths))
    return ids, ids, targets.tolist(), lambda z: F.cross_entropy(z, targets, ignore_index=-1)


def main():
    torch.set_num_threads(1)
    for seed, (folder, config) in enumerate(networks(), start=1):
        torch.manual_seed(seed)
        net = Net(config)
        with torch.no_grad():  # as initialised, hidden states hardly move: mistakes in time would hide
            for parameter in net.parameters():
                parameter.copy_(0.6 * torch.randn_like(parameter))
        os.makedirs(os.path.join(HERE, "rnn", folder), exist_ok=True)
        path = os.path.join(HERE, "rnn", folder)
        save_file({net.name(n): p.detach().clone() for n, p in net.named_parameters()}, f"{path}/model.safetensors",
                  metadata={"format": "pt"})
        with open(f"{path}/config.json", "w", encoding="utf-8") as out:
            json.dump(config, out, indent=1)
            out.write("\n")

        net = net.double()
        document, inputs, targets, loss_of = batch(config, torch.Generator().manual_seed(100 + seed))
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        losses, golden = [], {}
        for step in range(10):
            optimizer.zero_grad(set_to_none=True)
            outputs = net(inputs)
            loss = loss_of(outputs)
            loss.backward()
            if step == 0:
                gradients = {net.name(n): rounded(p.grad, 7) for n, p in net.named_parameters()}
                golden = {"inputs": document, "targets": targets, "outputs": rounded(outputs), "loss": rounded(loss.item()),
                          "gradients": gradients}
            losses.append(rounded(loss.item()))
            optimizer.step()
        golden["losses"] = losses
        with open(f"{path}/golden.json", "w", encoding="utf-8") as out:
            lines = (f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in golden.items())
            out.write("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{os.path.getsize(f'{path}/golden.json'):8} {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
