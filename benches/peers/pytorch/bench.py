"""W1, W3 and products in PyTorch and transformers, under the names of `jurist bench`; prints its JSON.

    python bench.py [--device cuda] [--dtype bfloat16] [--compile] > pytorch.json
    python bench.py --model FILE.gguf --only score,lora > pytorch.json      # needs PEFT (and gguf for such a file)
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

START = time.perf_counter()

import torch
import transformers

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--device", default="cpu", help="cpu, cuda, mps, xpu")
parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
parser.add_argument("--compile", action="store_true", help="torch.compile for the training step")
parser.add_argument("--only", default="matmul,step,rollout,decode", help="groups, with commas between")
parser.add_argument("--repeat", type=int, default=7, help="samples, of which the median counts")
for name, value in dict(
    hidden=256, layers=4, heads=8, kv_heads=4, head_dim=32, ffn=768, vocab=4096, batch=4, tokens=256, prompt=128, samples=16, new_tokens=64,
    rows=100, row_tokens=98, lora_rows=8,
).items():
    parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
parser.add_argument("--model", help="a folder or GGUF file whose sizes are taken; its weights are not (a Llama with random weights, as ours)")
parser.add_argument("--score-batch", type=int, default=8, help="prompts of a forward pass")
parser.add_argument("--square", default="512,1024", help="sides of the square products")
args = parser.parse_args()

tied = False
if args.model:
    at = Path(args.model)
    config = transformers.AutoConfig.from_pretrained(at.parent, gguf_file=at.name) if at.is_file() else transformers.AutoConfig.from_pretrained(at)
    args.hidden, args.layers, args.ffn, args.vocab = config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.vocab_size
    args.heads, args.kv_heads, tied = config.num_attention_heads, config.num_key_value_heads, config.tie_word_embeddings
    args.head_dim = getattr(config, "head_dim", None) or args.hidden // args.heads
device, dtype, groups = torch.device(args.device), getattr(torch, args.dtype), args.only.split(",")
torch.manual_seed(1)
# f32 means f32: no TF32 unless the other side has it too.
torch.backends.cuda.matmul.allow_tf32 = False


def synchronise():
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def clock(work, seconds=0.15):
    """Median seconds of one call, repeated so that a sample lasts a while."""
    work()
    synchronise()
    begin = time.perf_counter()
    work()
    synchronise()
    times = max(1, min(4096, int(seconds / max(time.perf_counter() - begin, 1e-7))))
    samples = []
    for _ in range(args.repeat):
        begin = time.perf_counter()
        for _ in range(times):
            work()
        synchronise()
        samples.append((time.perf_counter() - begin) / times)
    return statistics.median(samples)


rows = []


def row(group, name, seconds, flops=0, tokens=0):
    entry = {"group": group, "name": name, "seconds": seconds}
    if flops:
        entry["gflops"] = flops / seconds / 1e9
    if tokens:
        entry["tokens_per_second"] = tokens / seconds
    rows.append(entry)
    print(f"{name:44} {seconds * 1e3:10.3f} ms", *(f"{k} {v:.1f}" for k, v in entry.items() if k in ("gflops", "tokens_per_second")), file=sys.stderr)


def model():
    config = transformers.LlamaConfig(
        vocab_size=args.vocab, hidden_size=args.hidden, intermediate_size=args.ffn, num_hidden_layers=args.layers,
        num_attention_heads=args.heads, num_key_value_heads=args.kv_heads, head_dim=args.head_dim, rms_norm_eps=1e-5,
        max_position_embeddings=max(args.tokens, args.prompt + args.new_tokens, args.row_tokens), tie_word_embeddings=tied,
        attn_implementation="sdpa",
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).to(device=device, dtype=dtype)


def training_step():
    """Forward, backward, clipping and AdamW; reads loss and norm, as training does."""
    net = model()
    forward = torch.compile(net) if args.compile else net
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.01, fused=device.type in ("cpu", "cuda"))
    ids = (torch.arange(args.tokens)[None] * 7 + torch.arange(args.batch)[:, None] * 13) % args.vocab
    ids = ids.to(device)

    def step():
        logits = forward(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.view(-1, args.vocab).float(), ids.roll(-1, 1).view(-1))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.item(), norm.item()

    return step


def token_rows(rows, tokens):
    return ((torch.arange(tokens)[None] * 7 + torch.arange(rows)[:, None] * 13) % args.vocab).to(device)


@torch.inference_mode()
def score(net, ids):
    """Log-probabilities of six score tokens after each prompt; all prompts have one length, so nothing is padded."""
    scored = [net(input_ids=rows, use_cache=False, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)[:, :6] for rows in ids.split(args.score_batch)]
    return torch.cat(scored).cpu()


def lora_step():
    """Forward, backward through a frozen model to an adapter of rank 8 of all projections, clipping and AdamW. The last eight
    tokens of a row carry loss, and only their logits are computed."""
    import peft

    net = peft.get_peft_model(model(), peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=device.type in ("cpu", "cuda"))
    ids, answer = token_rows(args.lora_rows, args.row_tokens), min(8, args.row_tokens)

    def step():
        logits = net(input_ids=ids, use_cache=False, logits_to_keep=answer).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, args.vocab).float(), ids.roll(-1, 1)[:, -answer:].reshape(-1))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.item(), norm.item()

    return step


@torch.no_grad()
def rollout(net, samples, prompt):
    """The prompt once, its cache repeated for the samples, tokens drawn at temperature 1."""
    out = net(input_ids=prompt, use_cache=True, logits_to_keep=1)
    cache = out.past_key_values
    if samples > 1:
        cache.batch_repeat_interleave(samples)
    logits, drawn = out.logits[:, -1].expand(samples, -1), []
    for i in range(args.new_tokens):
        token = torch.multinomial(torch.softmax(logits.float(), -1), 1)
        drawn.append(token)
        if i + 1 < args.new_tokens:
            out = net(input_ids=token, past_key_values=cache, use_cache=True)
            logits = out.logits[:, -1]
    return torch.cat(drawn, 1).cpu()


first_step = None
if "step" in groups:
    step = training_step()
    step()
    first_step = time.perf_counter() - START
if "matmul" in groups:
    squares = [int(n) for n in args.square.split(",")]
    shapes = [(layout, n, n, n) for n in squares for layout in ("nn", "nt", "tn")]
    shapes += [("nt", args.batch * args.tokens, args.hidden, 1024)]
    shapes += [("nt", m, max(squares), max(squares)) for m in (1, 4, 16, 64)]
    for layout, m, k, n in shapes:
        a = torch.randn((k, m) if layout == "tn" else (m, k), device=device, dtype=dtype)
        b = torch.randn((n, k) if layout == "nt" else (k, n), device=device, dtype=dtype)
        x, y = a.T if layout == "tn" else a, b.T if layout == "nt" else b
        row("matmul", f"matmul {layout} {m}x{k}x{n}", clock(lambda: x @ y), 2 * m * k * n)
if "step" in groups:
    row("step", f"training step {args.batch}x{args.tokens}", clock(step), tokens=args.batch * args.tokens)
if "rollout" in groups or "decode" in groups:
    net = model().eval()
    prompt = (torch.arange(args.prompt)[None] * 7 % args.vocab).to(device)
    if "rollout" in groups:
        name = f"rollout {args.samples} samples, {args.prompt}+{args.new_tokens} tokens"
        row("rollout", name, clock(lambda: rollout(net, args.samples, prompt)), tokens=args.samples * args.new_tokens)
    if "decode" in groups:
        # Ours does not count the prompt; here one forward pass over it is taken off.
        with torch.no_grad():
            prefill = clock(lambda: net(input_ids=prompt, use_cache=True, logits_to_keep=1))
        seconds = clock(lambda: rollout(net, 1, prompt)) - prefill
        row("decode", f"decode 1 sample, {args.new_tokens} tokens behind {args.prompt}", seconds, tokens=args.new_tokens)
if "score" in groups:
    net, prompts = model().eval(), token_rows(args.rows, args.row_tokens)
    row("score", f"score {args.rows}x{args.row_tokens} tokens", clock(lambda: score(net, prompts)), tokens=args.rows * args.row_tokens)
if "lora" in groups:
    row("lora", f"LoRA step {args.lora_rows}x{args.row_tokens}", clock(lora_step()), tokens=args.lora_rows * args.row_tokens)

name = torch.cuda.get_device_name() if device.type == "cuda" else f"{device.type}, {torch.get_num_threads()} threads"
program = f"PyTorch {torch.__version__.split('+')[0]} {device.type} {args.dtype}{' compiled' if args.compile else ''}"
print(json.dumps({"program": program, "device": name, "first_step": first_step, "rows": rows}, indent=2))
