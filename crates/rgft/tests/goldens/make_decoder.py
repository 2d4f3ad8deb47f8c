"""Makes the PyTorch goldens of decoders: what the engine's language models are held against.

usage: PYTHON make_decoder.py [--assets DIR]

--assets DIR  holds models/stories260k; without it stories260k.json stays as it is

Made with torch 2.11, transformers 4.57 on one thread. Everything written is a function of the seeds below (and of that folder).

decoder/NAME/             config.json and model.safetensors of a random model; golden.json: two sequences' logits, the mean
                          next-token loss, all gradients, and the losses of ten AdamW steps on them (f64)
decoder/stories260k.json  greedy continuation of a prompt (f32), and nats per token of a sentence (f64)
"""
import argparse
import os

import torch
import torch.nn.functional as F
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

from make import rounded, write

HERE = os.path.dirname(os.path.abspath(__file__))
LENGTHS = (9, 4)
PROMPT = "Once upon a time"
SENTENCE = "Once upon a time, there was a little girl named Lily."


def models():
    shared = dict(vocab_size=24, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.3)
    llama3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
    yield "llama", LlamaForCausalLM, LlamaConfig(**shared, head_dim=4, tie_word_embeddings=True, rms_norm_eps=1e-5)
    yield "llama3", LlamaForCausalLM, LlamaConfig(**shared, head_dim=8, tie_word_embeddings=False, rope_scaling=llama3,
                                                  rope_theta=100.0, attention_bias=True, mlp_bias=True)
    yield "qwen2", Qwen2ForCausalLM, Qwen2Config(**{**shared, "num_key_value_heads": 1, "num_attention_heads": 2},
                                                 tie_word_embeddings=True)
    yield "qwen3", Qwen3ForCausalLM, Qwen3Config(**shared, head_dim=4, tie_word_embeddings=False)
    yield "gpt2", GPT2LMHeadModel, GPT2Config(vocab_size=24, n_embd=8, n_layer=2, n_head=2, n_positions=32, initializer_range=0.3)


def loss(net, sequences):
    """mean over all tokens that have a next one; and the logits of all tokens"""
    logits = [net(torch.tensor([ids])).logits[0] for ids in sequences]
    rows = torch.cat([z[:-1] for z in logits])
    targets = torch.tensor([token for ids in sequences for token in ids[1:]])
    return F.cross_entropy(rows, targets), torch.cat(logits)


def tiny():
    for seed, (name, make, config) in enumerate(models(), start=1):
        torch.manual_seed(seed)
        config._attn_implementation = "eager"
        net = make(config)
        with torch.no_grad():  # as initialised, biases are 0 and norms 1: too many mistakes would hide there
            for parameter_name, parameter in net.named_parameters():
                if parameter.dim() == 1:
                    is_scale = parameter_name.endswith("weight")
                    parameter.copy_((1.0 if is_scale else 0.0) + 0.1 * torch.randn_like(parameter))
        net.save_pretrained(os.path.join(HERE, "decoder", name))
        os.remove(os.path.join(HERE, "decoder", name, "generation_config.json"))
        net = net.double().eval()
        generator = torch.Generator().manual_seed(100 + seed)
        sequences = [torch.randint(0, config.vocab_size, (n,), generator=generator).tolist() for n in LENGTHS]
        value, logits = loss(net, sequences)
        value.backward()
        golden = {
            "about": f"{make.__name__}, eval mode, float64; each sequence by itself, the loss the mean over all next tokens; "
                     "ten AdamW steps on all parameters, rate 1e-2, betas 0.9 0.999, epsilon 1e-8, weight decay 0.01",
            "ids": sequences,
            "logits": rounded(logits, 8),
            "loss": rounded(value.item(), 12),
            "gradients": {n: rounded(p.grad, 7) for n, p in net.named_parameters()},
        }
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            value, _ = loss(net, sequences)
            value.backward()
            optimizer.step()
            losses.append(value.item())
        golden["losses"] = rounded(losses, 9)
        write(f"decoder/{name}/golden.json", golden)


def stories(folder):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"))
    net = LlamaForCausalLM.from_pretrained(folder).eval()
    prompt = tokenizer(PROMPT).input_ids
    ids, margin = list(prompt), float("inf")
    with torch.no_grad():
        for _ in range(100):
            first, second = net(torch.tensor([ids])).logits[0, -1].topk(2).values.tolist()
            margin = min(margin, first - second)
            ids.append(net(torch.tensor([ids])).logits[0, -1].argmax().item())
        sentence = tokenizer(SENTENCE).input_ids
        value, _ = loss(net.double(), [sentence])
    write("decoder/stories260k.json", {
        "about": "models/stories260k, LlamaForCausalLM: greedy continuation in float32, nats per token in float64",
        "prompt": PROMPT,
        "prompt_ids": prompt,
        "new_ids": ids[len(prompt):],
        "text": tokenizer.decode(ids, skip_special_tokens=True),
        "smallest_margin": rounded(margin, 3),
        "sentence": SENTENCE,
        "sentence_ids": sentence,
        "nats_per_token": rounded(value.item(), 9),
    })


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tiny()
    if args.assets:
        stories(f"{args.assets}/models/stories260k")


if __name__ == "__main__":
    main()
