"""Makes the data, the tokenizer and the model shape of `rgft demo`.

usage: PYTHON make.py          (needs scikit-learn, which ships the digits, numpy and tokenizers; no network)

A row's text is one 8x8 image: 64 characters, row by row, each gray level 0..16 as one of 0123456789abcdefg.
Row i of the source goes, by i mod 18, to

 0..9    digits-train.csv        1000 rows, as they are: pre-training
10..12   shift-train.csv          300 rows, faded: fine-tuning
13       digits-validation.csv, shift-validation.csv    100 rows, as they are and faded
14..17   digits-test.csv, shift-test.csv                397 rows, as they are and faded

so that no image of the shifted task was seen while pre-training. Faded: contrast halved, paper gray instead of white, and noise,

    v' = clip(round(8 + v / 2 + e), 0, 16),   e ~ N(0, 1)

which moves nearly every token, and so asks the lowest layers to read them anew, while what makes a digit stays as it was.
"""
import csv
import json
import os

import numpy
from sklearn.datasets import load_digits
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

HERE = os.path.dirname(os.path.abspath(__file__))
LEVELS = "0123456789abcdefg"
PARTS = {"train": range(0, 10), "shift-train": range(10, 13), "validation": range(13, 14), "test": range(14, 18)}


def faded(images):
    noise = numpy.random.default_rng(0).standard_normal(images.shape)
    return numpy.clip(numpy.round(8 + images / 2 + noise), 0, 16).astype(int)


def write_rows(name, images, labels):
    with open(os.path.join(HERE, name), "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["text", "label"])
        out.writerows(["".join(LEVELS[v] for v in image), label] for image, label in zip(images, labels))


def write_tables():
    images, labels = load_digits(return_X_y=True)
    images, shifted = images.astype(int), faded(images)
    part = numpy.arange(len(images)) % 18
    for name, remainders in PARTS.items():
        rows = numpy.isin(part, remainders)
        if name != "shift-train":
            write_rows(f"digits-{name}.csv", images[rows], labels[rows])
        if name != "train":
            write_rows(f"shift-{name.removeprefix('shift-')}.csv", shifted[rows], labels[rows])


def write_tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LEVELS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(words[:4])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(os.path.join(HERE, "tokenizer.json"))


def write_config():
    digits = [str(d) for d in range(10)]
    config = {
        "architectures": ["BertForSequenceClassification"],
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 64,
        "id2label": {d: d for d in digits},
        "initializer_range": 0.1,
        "intermediate_size": 256,
        "label2id": {d: int(d) for d in digits},
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 66,
        "model_type": "bert",
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "pad_token_id": 0,
        "rgft_pooling": "mean",
        "type_vocab_size": 2,
        "vocab_size": 21,
    }
    with open(os.path.join(HERE, "config.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    write_tables()
    write_tokenizer()
    write_config()
