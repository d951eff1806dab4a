#!/usr/bin/env python3
"""Writes the golden fixtures of tests/gpu/golden.rs: tiny models with awkward sizes, as PyTorch computes them.

    python scripts/make_golden.py tests/fixtures/golden      # needs torch, transformers, peft, safetensors; downloads nothing

Every model gets `<name>/checkpoint/` (what `save_pretrained` writes) and `<name>/reference.safetensors`: inputs,
logits, losses, the gradient of every parameter under five losses, and a greedy continuation. Two have adapters as well, each
in a folder whose name begins with `lora`: as PEFT saves it, with its own inputs, logits and gradients. `jurist doctor --against`
reads nothing else: score tokens, score values and all sizes come from the file.

    python scripts/make_golden.py tests/fixtures/golden --adapter lora-patterns      # this adapter alone, the rest as it is
    python scripts/make_golden.py tests/fixtures/golden --model gemma3_local         # this model alone, with its adapters

The sizes are chosen to break what is tuned to round numbers: prime vocabularies, odd widths, seven query heads to one
key/value head, a window shorter than the sequences, score tokens out of order with values that are neither whole,
nor positive, nor sorted, and a response that is a score and nothing else.
"""

import argparse
import json
import shutil
from pathlib import Path

import peft
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, SmolLM3Config,
)

SCORE_VALUES = [0.5, 2.0, -1.0, 3.25]
PLAIN_SHAPE = (3, 13)
PLAIN_LABELS = [-0.4, 2.6, 0.9]
PROMPT_LENGTH = 7
RESPONSE_LENGTHS = [6, 1, 11, 4]  # 1: the score alone
REAL_LABELS = [1.25, 1.25, -0.5, 3.0]
ADVANTAGES = [-0.7, 0.45, 1.1, -0.2]
BETA = 1.3
GREEDY_PROMPT, GREEDY_TOKENS = 9, 12
LORA_SHAPE = (3, 11)
CLEAR_GAP = 0.01  # a fixture whose greedy choice is closer than this gets another seed


def theta(value):
    return {"rope_parameters": {"rope_type": "default", "rope_theta": value}}


# name: (configuration, score token ids)
MODELS = {
    "qwen3_gqa7_tied": (
        Qwen3Config(
            vocab_size=97, hidden_size=27, intermediate_size=37, num_hidden_layers=2, num_attention_heads=7,
            num_key_value_heads=1, head_dim=10, rms_norm_eps=1e-6, tie_word_embeddings=True,
            max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, **theta(1e6),
        ),
        [41, 7, 90, 13],
    ),
    "qwen2_biases": (
        Qwen2Config(
            vocab_size=89, hidden_size=18, intermediate_size=23, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, rms_norm_eps=1e-5, tie_word_embeddings=True,
            max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, **theta(1e4),
        ),
        [88, 3, 4, 50],
    ),
    "mistral_window5": (
        MistralConfig(
            vocab_size=101, hidden_size=15, intermediate_size=19, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=6, sliding_window=5, rms_norm_eps=1e-5, tie_word_embeddings=False,
            max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, **theta(1e4),
        ),
        [100, 64, 65, 9],
    ),
    "llama3_rope": (
        LlamaConfig(
            vocab_size=61, hidden_size=15, intermediate_size=22, num_hidden_layers=1, num_attention_heads=3,
            num_key_value_heads=3, head_dim=14, rms_norm_eps=1e-5, tie_word_embeddings=False,
            max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0,
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
            },
        ),
        [30, 60, 5, 29],
    ),
    # Local layers with a window and a base of their own around a global one whose rope is scaled; a query scale that is not
    # head_dim.
    "gemma3_local": (
        Gemma3TextConfig(
            vocab_size=83, hidden_size=21, intermediate_size=19, num_hidden_layers=3, num_attention_heads=3,
            num_key_value_heads=1, head_dim=10, query_pre_attn_scalar=7, sliding_window=5, rms_norm_eps=1e-6,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"], max_position_embeddings=64,
            bos_token_id=2, eos_token_id=1, pad_token_id=0,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4},
            },
        ),
        [82, 40, 5, 61],
    ),
    # The first layer does not rotate.
    "smollm3_nope": (
        SmolLM3Config(
            vocab_size=79, hidden_size=20, intermediate_size=23, num_hidden_layers=2, num_attention_heads=10,
            num_key_value_heads=2, no_rope_layers=[0, 1], rms_norm_eps=1e-6, max_position_embeddings=64,
            bos_token_id=1, eos_token_id=2, pad_token_id=0, **theta(1e4),
        ),
        [78, 33, 34, 4],
    ),
}

# Adapters of PEFT, by model and folder: odd ranks, ranks and alphas of single modules, rsLoRA, parts of the fused groups left
# out; patterns that are regular expressions, the first that matches counting; targets that are one; keys as in memory.
ADAPTERS = {
    "qwen3_gqa7_tied": {
        "lora": dict(r=3, lora_alpha=5, target_modules="all-linear", rank_pattern={"down_proj": 5}),
        "lora-patterns": dict(
            r=3, lora_alpha=8, init_lora_weights="gaussian", target_modules=r".*\.layers\.\d+\.(self_attn\.[qv]_proj|mlp\.up_proj)",
            rank_pattern={r"layers\.[0-2]\.self_attn\.q_proj": 2, "v_proj": 1},
            alpha_pattern={"(?!.*v_proj).*q_proj|layers.1.mlp.up_proj": 3, ".*v_proj": 64, "v_proj": 1},  # saved sorted
        ),
    },
    "qwen2_biases": {
        "lora": dict(
            r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "v_proj", "up_proj"],
            alpha_pattern={"model.layers.1.self_attn.q_proj": 3},
        ),
        "lora-layers": dict(
            r=2, lora_alpha=3, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"], layers_to_transform=[1],
            layers_pattern="layers", exclude_modules=["q_proj"], alpha_pattern={r"layers\.\d+\.self_attn\.v_proj": 64},
        ),
    },
    "gemma3_local": {"lora": dict(r=3, lora_alpha=5, target_modules="all-linear")},
    "smollm3_nope": {"lora": dict(r=2, lora_alpha=3, target_modules=["q_proj", "k_proj", "o_proj", "down_proj"])},
}
KEYS_AS_IN_MEMORY = ["lora-layers"]  # lora_A.default.weight, which PEFT reads as well


def build(config, gen):
    """A random model in which no parameter is constant and no distribution is flat."""
    middle = 0 if config.model_type == "gemma3_text" else 1  # Gemma's norms are 1 + w
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if name.endswith("norm.weight"):
                p.copy_(middle + 0.25 * noise)
            elif p.dim() == 1:
                p.copy_(0.15 * noise)
            elif "embed_tokens" in name or "lm_head" in name:
                p.copy_(0.3 * noise)
            else:
                p.copy_(noise / p.shape[1] ** 0.5)
    return model


def logits(model, ids, mask=None):
    return model(input_ids=ids, attention_mask=mask, use_cache=False).logits


def expected(rows, tokens, renormalise):
    """RAIL: the expectation of the score under the whole vocabulary or under the score tokens alone."""
    p = rows[:, tokens].softmax(-1) if renormalise else rows.softmax(-1)[:, tokens]
    return p @ torch.tensor(SCORE_VALUES)


def gradients(model, loss, prefix):
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {f"{prefix}.grad.{name}": p.grad.clone() for name, p in model.named_parameters()}


def plain(model, tokens, gen):
    """Logits, cross-entropy over all next tokens, and RAIL at the last position, both ways."""
    vocabulary = model.config.vocab_size
    ids = torch.randint(3, vocabulary, PLAIN_SHAPE, generator=gen)
    labels = torch.tensor(PLAIN_LABELS)
    out = {
        "input_ids": ids, "logits": logits(model, ids).detach(), "rail.score_token_ids": torch.tensor(tokens),
        "rail.score_values": torch.tensor(SCORE_VALUES), "rail.targets": labels,
    }
    loss = F.cross_entropy(logits(model, ids)[:, :-1].reshape(-1, vocabulary), ids[:, 1:].reshape(-1))
    out |= {"ce.loss": loss.detach()} | gradients(model, loss, "ce")
    for name, renormalise in (("rail.full", False), ("rail.renorm", True)):
        score = expected(logits(model, ids)[:, -1], tokens, renormalise)
        loss = (score - labels).square().mean()
        out |= {f"{name}.expected": score.detach(), f"{name}.loss": loss.detach()} | gradients(model, loss, name)
    return out


def surrogate(model, tokens, gen):
    """REAL with given advantages: mean over masked tokens of -A log p, plus BETA times the squared error of E."""
    rows, width = len(RESPONSE_LENGTHS), PROMPT_LENGTH + max(RESPONSE_LENGTHS)
    prompt = torch.randint(3, model.config.vocab_size, (PROMPT_LENGTH,), generator=gen)
    ids, mask = torch.zeros(rows, width, dtype=torch.long), torch.zeros(rows, width, dtype=torch.long)
    response = torch.zeros(rows, width)
    for row, length in enumerate(RESPONSE_LENGTHS):
        chain = torch.randint(3, model.config.vocab_size, (length - 1,), generator=gen)
        score = torch.tensor([tokens[int(torch.randint(0, len(tokens), (1,), generator=gen))]])
        ids[row, : PROMPT_LENGTH + length] = torch.cat([prompt, chain, score])
        mask[row, : PROMPT_LENGTH + length] = 1
        response[row, PROMPT_LENGTH : PROMPT_LENGTH + length] = 1
    last = torch.tensor(RESPONSE_LENGTHS) + PROMPT_LENGTH - 1
    every = torch.arange(rows)
    chains = response.clone()
    chains[every, last] = 0
    labels, advantages = torch.tensor(REAL_LABELS), torch.tensor(ADVANTAGES)
    out = {
        "real.input_ids": ids, "real.attention_mask": mask, "real.response_mask": response, "real.cot_mask": chains,
        "real.score_index": last, "real.targets": labels, "real.advantages": advantages, "real.beta": torch.tensor(BETA),
    }
    for name, kept in (("real.all", response), ("real.cot", chains)):
        z = logits(model, ids, mask)
        # Row t - 1 predicts token t; nothing predicts the first.
        log_p = F.pad(z[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0], (1, 0))
        policy = -(advantages[:, None] * log_p * kept).sum() / kept.sum()
        score = expected(z[every, last - 1], tokens, False)
        error = (score - labels).square().mean()
        loss = policy + BETA * error
        out |= {
            "real.logp": (log_p * response).detach(), "real.expected": score.detach(), "real.mse_loss": error.detach(),
            f"{name}.pg_loss": policy.detach(), f"{name}.loss": loss.detach(),
        }
        out |= gradients(model, loss, name)
    return out


def greedy(model, gen):
    ids = torch.randint(3, model.config.vocab_size, (1, GREEDY_PROMPT), generator=gen)
    gaps = []
    with torch.no_grad():
        for _ in range(GREEDY_TOKENS):
            top = logits(model, ids)[0, -1].topk(2)
            gaps.append(top.values[0] - top.values[1])
            ids = torch.cat([ids, top.indices[:1][None]], 1)
    return {"gen.prompt_ids": ids[0, :GREEDY_PROMPT], "gen.output_ids": ids[0, GREEDY_PROMPT:], "gen.top2_gap": torch.stack(gaps)}


def adapter(checkpoint, settings, gen, out):
    """Logits and cross-entropy gradients through an adapter on the frozen model, and the logits once it is merged."""
    base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=gen))
    model.peft_config["default"].base_model_name_or_path = "../../checkpoint"
    model.save_pretrained(out / "adapter")
    (out / "adapter" / "README.md").unlink(missing_ok=True)
    if out.name in KEYS_AS_IN_MEMORY:
        file = str(out / "adapter" / "adapter_model.safetensors")
        save_file({k.replace(".weight", ".default.weight"): v for k, v in load_file(file).items()}, file)
    vocabulary = model.config.vocab_size
    ids = torch.randint(3, vocabulary, LORA_SHAPE, generator=gen)
    z = logits(model, ids)
    loss = F.cross_entropy(z[:, :-1].reshape(-1, vocabulary), ids[:, 1:].reshape(-1))
    loss.backward()
    # What is saved must be what PEFT makes of the files.
    again = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    assert torch.equal(logits(PeftModel.from_pretrained(again, out / "adapter").eval(), ids), z)
    grads = {f"ce.grad.{n.replace('.default', '')}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert all("lora_" in name for name in grads)
    merged = model.merge_and_unload()
    out_tensors = {"input_ids": ids, "logits": z, "ce.loss": loss, "merged_logits": logits(merged, ids)} | grads
    save_file({k: v.detach().contiguous().clone() for k, v in out_tensors.items()}, str(out / "reference.safetensors"))


def adapters(folder, name, seed, only=None):
    for kind, settings in ADAPTERS.get(name, {}).items():
        if only in (None, kind):
            shutil.rmtree(folder / kind, ignore_errors=True)
            (folder / kind).mkdir()
            adapter(folder / "checkpoint", settings, torch.Generator().manual_seed(seed), folder / kind)


def make(name, first_seed):
    config, tokens = MODELS[name]
    for seed in range(first_seed, first_seed + 100):
        gen = torch.Generator().manual_seed(seed)
        model = build(config, gen)
        out = plain(model, tokens, gen) | surrogate(model, tokens, gen) | greedy(model, gen)
        # A constant continuation would hide a wrong position in the cache.
        if out["gen.top2_gap"].min() > CLEAR_GAP and len(out["gen.output_ids"].unique()) >= 4:
            return model, out, seed
    raise SystemExit(f"{name}: no seed from {first_seed} on gives a clear greedy continuation")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", help="make this model only, with its adapters")
    parser.add_argument("--adapter", help="make this adapter only, onto the models that are there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()
    if args.adapter:
        seeds = json.loads((args.out / "made_with.json").read_text())["seeds"]
        for name in MODELS:
            adapters(args.out / name, name, seeds[name], args.adapter)
        return
    seeds = {}
    if args.model:
        seeds = json.loads((args.out / "made_with.json").read_text())["seeds"]
    for name in [args.model] if args.model else MODELS:
        model, tensors, seeds[name] = make(name, args.seed)
        folder = args.out / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder / "checkpoint")
        for key, value in tensors.items():
            assert not value.is_floating_point() or (value.dtype == torch.float32 and value.isfinite().all()), key
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, str(folder / "reference.safetensors"))
        adapters(folder, name, seeds[name])
        print(f"{name}: {len(tensors)} tensors, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) >> 10} KiB")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__, "seeds": seeds}
    (args.out / "made_with.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
