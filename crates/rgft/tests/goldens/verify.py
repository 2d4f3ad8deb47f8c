"""Loads a model folder with transformers and prints what it answers: the check that saved weights keep their public names.

usage: PYTHON verify.py DIR [--pooling auto|model|mean|cls] [--max-length 128] < LINES

Each line of standard input is a text, or a JSON object: {"text": …, "text_pair": …} or {"ids": […], "type_ids": […]}.
Each line of standard output is a JSON object: {"logits": […], "label": …} in float64, or {"pooled": […]} where the folder
has no classifier.

--pooling auto   what config.json's `rgft_pooling` says, else `model`
--pooling model  the folder's own architecture: AutoModelForSequenceClassification, or AutoModel where config.json's
                 `architectures` names no classifier
--pooling mean   AutoModel, mean over the tokens, then the folder's classifier: no class of transformers pools so, and
                 AutoModelForSequenceClassification would answer through a pooler instead
--pooling cls    the same over the first token

Exit status 1 when transformers finds a tensor missing, of another shape, or without a place.
"""
import argparse
import json
import os
import sys

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification


def load(args):
    config = AutoConfig.from_pretrained(args.folder)
    if args.pooling == "auto":
        args.pooling = {"mean": "mean", "cls": "cls"}.get(getattr(config, "rgft_pooling", None), "model")
    whole = args.pooling == "model" and any("SequenceClassification" in name for name in config.architectures or [])
    kind = AutoModelForSequenceClassification if whole else AutoModel
    net, info = kind.from_pretrained(args.folder, attn_implementation="eager", output_loading_info=True)
    print(f"{type(net).__name__}: {sum(p.numel() for p in net.parameters())} parameters, pooling {args.pooling}", file=sys.stderr)

    def without(names, *prefixes):
        return sorted(name for name in names if not name.startswith(prefixes))

    wrong = {"missing": without(info["missing_keys"], *([] if args.pooling == "model" else ["pooler."])),
             "unexpected": without(info["unexpected_keys"], *([] if whole else ["classifier.", "pre_classifier."])),
             "mismatched": [str(key) for key in info["mismatched_keys"]]}
    if any(wrong.values()):
        sys.exit(f"error: tensors do not fit {type(net).__name__}: {json.dumps(wrong)}")
    head = None
    if not whole:
        tensors = load_file(os.path.join(args.folder, "model.safetensors"))
        name = "classifier.out_proj" if config.model_type == "roberta" else "classifier"
        if f"{name}.weight" in tensors:
            head = [tensors[f"{name}.{part}"].double() for part in ("weight", "bias")]
    return config, net.double().eval(), head


def tokens(line, args, cache={}):
    item = json.loads(line) if line.startswith("{") else {"text": line}
    if "ids" in item:
        return item["ids"], item.get("type_ids", [0] * len(item["ids"]))
    if not cache:
        cache["tokenizer"] = Tokenizer.from_file(os.path.join(args.folder, "tokenizer.json"))
        cache["tokenizer"].no_padding()
        cache["tokenizer"].enable_truncation(args.max_length)
    encoding = cache["tokenizer"].encode(item["text"], item.get("text_pair"))
    return encoding.ids, encoding.type_ids


def answer(config, net, head, pooling, ids, kinds):
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.tensor([kinds])
    out = net(**inputs)
    if "logits" in out:
        logits = out.logits[0]
    else:
        hidden = out.last_hidden_state[0]  # [tokens, hidden]
        pooled = hidden[0] if pooling == "cls" else hidden.mean(0)
        if head is None:
            return {"pooled": pooled.tolist()}
        logits = head[0] @ pooled + head[1]
    return {"logits": logits.tolist(), "label": config.id2label[logits.argmax().item()]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--pooling", choices=["auto", "model", "mean", "cls"], default="auto")
    parser.add_argument("--max-length", type=int, default=128)
    args = parser.parse_args()
    config, net, head = load(args)
    with torch.no_grad():
        for line in sys.stdin:
            print(json.dumps(answer(config, net, head, args.pooling, *tokens(line.rstrip("\n"), args)), ensure_ascii=False))


if __name__ == "__main__":
    main()
