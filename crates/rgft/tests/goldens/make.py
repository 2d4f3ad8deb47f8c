"""Makes the PyTorch goldens of this folder: what the engine's numbers are held against.

usage: PYTHON make.py --assets DIR --yardstick DIR [--only minilm|losses|tiny]

--assets DIR     holds models/minilm (all-MiniLM-L6-v2) and data/text/trec6
--yardstick DIR  holds models.py with `Encoder`, the reference BERT encoder (mean pooling, linear head)

Made with torch 2.11, transformers 4.57, tokenizers 0.22, safetensors 0.8 on one thread. Everything written is a function of
these two folders and the seeds below: a second run on the same machine writes the same bytes.

minilm.json         8 sentences: token ids, logits, first values of the pooled embeddings (f64 arithmetic)
minilm_losses.json  20 training steps on TREC-6: loss and gradient norm per step, gradient norm per parameter at step 1
tiny/NAME/          config.json and model.safetensors of a random model; golden.json: logits, losses, all gradients (f64)
"""
import argparse
import csv
import json
import math
import os
import sys

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
CLASSES = 6
HEAD = "weight[c][j] = 0.02 * sin(1 + 0.37 * c + 0.11 * j), bias = 0"
SENTENCES = [
    "What is the capital of Yugoslavia ?",
    "",
    "Hello",
    "The quick brown fox jumps over the lazy dog, then it rests under the old oak tree until the evening comes.",
    "Crème brûlée – 東京タワー costs 12,50 € 😀 naïve Straße",
    "How many grams of sodium chloride are dissolved in 2.5 litres of sea water at 20 degrees ?",
    "unbelievably antidisestablishmentarianism!!! ... (sic) #hash @name http://example.org/a?b=c&d=e",
    " ".join(["A long sentence makes the attention look at many places at once, because every word may depend on each other one;"] * 4),
]


# ---- writing ----


def rounded(value, digits=9):
    """Nested lists of a tensor's values to 9 significant digits: finer than f32, and short."""
    if isinstance(value, torch.Tensor):
        value = value.detach().tolist()
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    return float(f"{value:.{digits}g}")


def write(path, document):
    """One key per line, values compact."""
    def lines(value, indent):
        if isinstance(value, dict) and indent < 3:
            pad = "  " * indent
            body = ",\n".join(f"{pad}  {json.dumps(k)}: {lines(v, indent + 1)}" for k, v in value.items())
            return f"{{\n{body}\n{pad}}}"
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    path = os.path.join(HERE, path)
    with open(path, "w", encoding="utf-8") as out:
        out.write(lines(document, 0) + "\n")
    print(f"{os.path.getsize(path):8} {os.path.relpath(path, HERE)}", file=sys.stderr)


# ---- MiniLM through the yardstick's encoder ----


def encoder(args, dtype, dropout):
    from models import Encoder

    net = Encoder.pretrained(f"{args.assets}/models/minilm", CLASSES, dropout=dropout).to(dtype)
    c = torch.arange(CLASSES, dtype=torch.float64)[:, None]
    j = torch.arange(net.head.in_features, dtype=torch.float64)[None, :]
    with torch.no_grad():
        net.head.weight.copy_(0.02 * torch.sin(1 + 0.37 * c + 0.11 * j))
        net.head.bias.zero_()
    return net


def tokenizer(args, max_length):
    tokens = Tokenizer.from_file(f"{args.assets}/models/minilm/tokenizer.json")
    tokens.no_padding()
    tokens.enable_truncation(max_length)
    return tokens


def padded(sequences, dtype):
    """ids [batch, longest] filled up with 0, keep [batch, longest] 1 on tokens and 0 on padding"""
    longest = max(map(len, sequences))
    ids, keep = torch.zeros(len(sequences), longest, dtype=torch.long), torch.zeros(len(sequences), longest, dtype=dtype)
    for row, sequence in enumerate(sequences):
        ids[row, :len(sequence)] = torch.tensor(sequence)
        keep[row, :len(sequence)] = 1
    return ids, keep


def hugging_face_name(name):
    """the yardstick's parameter name as it stands in model.safetensors"""
    top = {"word": "embeddings.word_embeddings", "position": "embeddings.position_embeddings",
           "kind": "embeddings.token_type_embeddings", "norm": "embeddings.LayerNorm", "head": "classifier"}
    inner = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
             "out": "attention.output.dense", "norm1": "attention.output.LayerNorm", "up": "intermediate.dense",
             "down": "output.dense", "norm2": "output.LayerNorm"}
    path = name.split(".")
    if path[0] == "layers":
        return f"encoder.layer.{path[1]}.{inner[path[2]]}.{path[3]}"
    return f"{top[path[0]]}.{path[1]}"


def minilm(args):
    def logits(dtype):
        torch.set_default_dtype(dtype)
        net = encoder(args, dtype, dropout=0.1).eval()
        pooled = []
        net.head.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
        with torch.no_grad():
            out = net(*padded(ids, dtype))
        torch.set_default_dtype(torch.float32)
        return out, pooled[0]

    ids = [e.ids for e in tokenizer(args, 128).encode_batch(SENTENCES)]
    out, pooled = logits(torch.float64)
    single, _ = logits(torch.float32)
    write("minilm.json", {
        "about": "all-MiniLM-L6-v2, mean pooling, eval mode, one padded batch, float64; max_length 128",
        "head": HEAD,
        "f32_difference": rounded((single.double() - out).abs().max().item(), 3),
        "sentences": SENTENCES,
        "ids": ids,
        "logits": rounded(out),
        "pooled": rounded(pooled[:, :8]),
    })


def losses(args):
    steps, batch = 20, 32
    with open(f"{args.assets}/data/text/trec6/train.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    assert len(names) == CLASSES
    rows = rows[:steps * batch]
    ids = [e.ids for e in tokenizer(args, 64).encode_batch([row["text"] for row in rows])]
    targets = [names.index(row["label"]) for row in rows]

    def train(dtype):
        torch.set_default_dtype(dtype)
        net = encoder(args, dtype, dropout=0.0).train()
        head = list(net.head.parameters())
        body = [p for n, p in net.named_parameters() if not n.startswith("head.")]
        optimizer = torch.optim.AdamW([dict(params=body, lr=1e-4), dict(params=head, lr=1e-3)],
                                      betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        values, norms, first = [], [], {}
        for step in range(steps):
            part = slice(step * batch, (step + 1) * batch)
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(net(*padded(ids[part], dtype)), torch.tensor(targets[part]))
            loss.backward()
            if step == 0:
                first = {hugging_face_name(n): rounded(p.grad.norm().item()) for n, p in net.named_parameters()}
            norms.append(torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0).item())
            optimizer.step()
            values.append(loss.item())
        torch.set_default_dtype(torch.float32)
        return values, norms, first

    values, norms, first = train(torch.float32)
    exact_values, exact_norms, exact_first = train(torch.float64)
    write("minilm_losses.json", {
        "about": "all-MiniLM-L6-v2 with mean pooling on TREC-6 train rows 0..640 in order; no dropout; AdamW on all parameters, "
                 "dense, betas 0.9 0.999, epsilon 1e-8, weight decay 0.01, constant rates, clip 1.0 over the global norm",
        "head": HEAD,
        "batch": batch,
        "max_length": 64,
        "learning_rate": 1e-4,
        "head_learning_rate": 1e-3,
        "labels": names,
        "first_batch": {"ids": ids[:batch], "targets": targets[:batch]},
        "tokens": [sum(map(len, ids[s * batch:(s + 1) * batch])) for s in range(steps)],
        "loss": rounded(values),
        "gradient_norm": rounded(norms),
        "loss_f64": rounded(exact_values),
        "gradient_norm_f64": rounded(exact_norms),
        "first_gradient_norms": first,
        "first_gradient_norms_f64": exact_first,
    })


# ---- tiny random models of transformers ----


def tiny_models():
    from transformers import (BertConfig, BertForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification,
                              RobertaConfig, RobertaForSequenceClassification)

    shared = dict(vocab_size=64, max_position_embeddings=40, num_labels=3, initializer_range=0.2)
    width = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
                 hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    bert = BertConfig(**shared, **width, type_vocab_size=2, pad_token_id=0)
    roberta = RobertaConfig(**shared, **width, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, layer_norm_eps=1e-5)
    distilbert = DistilBertConfig(**shared, dim=16, n_layers=2, n_heads=4, hidden_dim=32, dropout=0.1, attention_dropout=0.1,
                                  seq_classif_dropout=0.2, pad_token_id=0)
    first, last = {"bert": (2, 3), "distilbert": (2, 3), "roberta": (0, 2)}, 5
    for make, config in ((BertForSequenceClassification, bert), (RobertaForSequenceClassification, roberta),
                         (DistilBertForSequenceClassification, distilbert)):
        yield config.model_type, make, config, first[config.model_type], last


def tiny(args):
    for seed, (name, make, config, (start, end), lowest) in enumerate(tiny_models(), start=1):
        torch.manual_seed(seed)
        config._attn_implementation = "eager"
        net = make(config)
        with torch.no_grad():  # as initialised, biases are 0 and norms 1: too many mistakes would hide there
            for parameter_name, parameter in net.named_parameters():
                if parameter.dim() == 1:
                    centre = 1.0 if "norm" in parameter_name.lower() and parameter_name.endswith("weight") else 0.0
                    parameter.copy_(centre + 0.1 * torch.randn_like(parameter))
        folder = os.path.join(HERE, "tiny", name)
        net.save_pretrained(folder)
        net = net.double().eval()

        generator = torch.Generator().manual_seed(100 + seed)

        def words(count):
            return torch.randint(lowest, config.vocab_size, (count,), generator=generator).tolist()

        ids = [[start] + words(1) + [end], [start] + words(5) + [end], [start] + words(10) + [end]]
        kinds = [[0] * len(sequence) for sequence in ids]
        a, b = words(3), words(4)
        if name == "roberta":  # its pairs have two separators and no type ids
            ids.append([start] + a + [end, end] + b + [end])
            kinds.append([0] * len(ids[-1]))
        else:
            ids.append([start] + a + [end] + b + [end])
            kinds.append([0] * 5 + [1] * 5)
        longest = max(map(len, ids))
        inputs = {
            "input_ids": torch.tensor([s + [config.pad_token_id] * (longest - len(s)) for s in ids]),
            "attention_mask": torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in ids]),
        }
        golden = {"about": f"{make.__name__}, eval mode, one padded batch, float64; losses are means over all their elements", "ids": ids}
        if name == "bert":
            inputs["token_type_ids"] = torch.tensor([k + [0] * (longest - len(k)) for k in kinds])
            golden["type_ids"] = kinds
        targets = {
            "cross_entropy": torch.tensor([0, 2, 1, 2]),
            "binary_cross_entropy": torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]]).double(),
            "squared_error": torch.tensor([[0.5, -1, 2], [0, 0.25, -0.75], [1.5, 1, -2], [-0.125, 0.5, 0]]).double(),
        }

        def gradients(loss):
            net.zero_grad(set_to_none=True)
            loss(net(**inputs).logits).backward()
            return {n: rounded(p.grad) for n, p in net.named_parameters()}

        functions = {
            "cross_entropy": lambda z: F.cross_entropy(z, targets["cross_entropy"]),
            "binary_cross_entropy": lambda z: F.binary_cross_entropy_with_logits(z, targets["binary_cross_entropy"]),
            "squared_error": lambda z: F.mse_loss(z, targets["squared_error"]),
        }
        logits = net(**inputs).logits
        golden["logits"] = rounded(logits)
        for kind, loss in functions.items():
            if kind != "cross_entropy" and name != "bert":
                continue
            found = gradients(loss)
            golden[kind] = {"targets": targets[kind].tolist(), "loss": rounded(loss(logits).item()),
                            "gradients": found if kind == "cross_entropy" else {"classifier.weight": found["classifier.weight"]}}
        write(f"tiny/{name}/golden.json", golden)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", required=True)
    parser.add_argument("--yardstick", required=True)
    parser.add_argument("--only", choices=["minilm", "losses", "tiny"])
    args = parser.parse_args()
    sys.path.insert(0, args.yardstick)
    torch.set_num_threads(1)
    for name, make in (("minilm", minilm), ("losses", losses), ("tiny", tiny)):
        if args.only in (None, name):
            make(args)


if __name__ == "__main__":
    main()
