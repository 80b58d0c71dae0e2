#!/usr/bin/env python3
"""The passes of Passes.cs in plain PyTorch, over the same checkpoint and the same texts: load, edit, training step, greedy answer.

  reference.py CHECKPOINT cuda|cpu OUT.json [passes]      passes: the edit and the training step alone

Written from the papers and the checkpoints' formats, with nothing but torch: weights and activations have the checkpoint's type, the editor float32. What a careful
plain script does is done: no gradient of a base weight is formed, layers below the lowest edited one run without a graph, attention is PyTorch's own
fused one (before PyTorch 2: two products and a softmax), keys and values are cached, updates stay factored.

B = 1 example, T tokens, S source tokens, C hidden size, H heads, D head size, V vocabulary, R kept rows, m in-features, n out-features.
"""
import json
import math
import mmap
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

WARM_UP, ROUNDS, ASKS, ANSWER_TOKENS, WINDOW, WINDOWS = 3, 10, 3, 32, 10, 3
TYPES = {"BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
END = 1  # the token after which an answer is over; letters are 2 + their byte


# Checkpoints -------------------------------------------------------------------------------------------------------------------------

def read_safetensors(path, device):
    """All tensors of a file, on the device, and the metadata: 8 bytes of length, a JSON header, the bytes."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    length = int.from_bytes(mapped[:8], "little")
    header = json.loads(mapped[8:8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = TYPES[entry["dtype"]]
        flat = torch.frombuffer(mapped, dtype=dtype, count=(end - begin) // torch.empty(0, dtype=dtype).element_size(), offset=8 + length + begin)
        value = flat.reshape(entry["shape"])
        tensors[name] = value.to(device) if device != "cpu" else value
    return tensors, metadata


def read_model(folder, device):
    weights = {}
    for path in sorted(folder.glob("model*.safetensors")):
        weights.update(read_safetensors(path, device)[0])
    return weights


def attention(q, k, v, bias=None, causal=False, scale=None):
    """q [1, H, T, D], k and v [1, H, S, D] to [1, H, T, D]; PyTorch's own, which versions before 2 lack."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal, scale=scale)
    scores = q @ k.transpose(-1, -2) * (scale or q.shape[-1] ** -0.5)
    if causal:
        scores = scores.masked_fill(torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1), -math.inf)
    return (scores if bias is None else scores + bias).softmax(-1) @ v


# Models ------------------------------------------------------------------------------------------------------------------------------

class Run:
    """One trip through the layers: active updates by weight name, what is recorded, keys and values of the tokens before."""

    def __init__(self, tokens, edits=None, record=None, cache=None):
        self.tokens, self.edits, self.record, self.cache, self.shared = tokens, edits or {}, record, cache, {}

    @property
    def continues(self):
        return bool(self.cache) and self.cache["length"] > 0

    def append(self, name, key, value):
        """With those of the tokens before: [1, H, T, D] to [1, H, S, D]."""
        if self.cache is None:
            return key, value
        if name in self.cache:
            key, value = torch.cat([self.cache[name][0], key], 2), torch.cat([self.cache[name][1], value], 2)
        self.cache[name] = key, value
        return key, value


class Model:
    """A list of layers (state, run) -> state, with state = (hidden [1, T, C], memory [1, S, C]); the lowest edited one is known."""

    def __init__(self, weights, config, editable):
        self.weights, self.config, self.editable = weights, config, set(editable)
        self.layers = self.build()
        self.lowest = next(i for i, (name, _) in enumerate(self.layers) if any(weight.startswith(name + ".") for weight in editable))

    def linear(self, name, x, run, bias=True):
        """x [1, T, m] to [1, T, n]; recorded and edited where that is asked for. GPT-2 keeps its matrices as [m, n]."""
        W, b = self.weights[name + ".weight"], self.weights[name + ".bias"] if bias else None
        z = torch.addmm(b, x[0], W).unsqueeze(0) if self.turned else F.linear(x, W, b)
        weight = name + ".weight"
        if weight in run.edits:
            u, delta, alpha = run.edits[weight]
            z = z - ((x.float() @ u.t()) * alpha @ delta).to(z.dtype)
        if run.record is not None and weight in self.editable:
            if not z.requires_grad:
                z = z.detach().requires_grad_()
            run.record[weight] = x.detach(), z
        return z

    turned = False

    def heads(self, x, count):
        return x.view(1, x.shape[1], count, -1).transpose(1, 2)  # [1, H, T, D]

    @staticmethod
    def merge(x):
        return x.transpose(1, 2).reshape(1, x.shape[2], -1)

    def below(self, run):
        with torch.no_grad():
            return self.through(self.layers[:self.lowest], (None, None), run)

    def above(self, state, run):
        return self.through(self.layers[self.lowest:], state, run)[0]

    def forward(self, run):
        hidden = self.above(self.below(run), run)
        if run.cache is not None:
            run.cache["length"] += hidden.shape[1]
        return hidden

    @staticmethod
    def through(layers, state, run):
        for name, layer in layers:
            if not (run.continues and name.startswith("encoder")):
                state = layer(state, run)
        return state


class Gpt(Model):
    shifts, encoder_decoder = True, False

    def build(self):
        blocks = [(f"transformer.h.{i}", self.block(f"transformer.h.{i}")) for i in range(self.config["n_layer"])]
        return [("transformer.wte", self.embed), *blocks, ("transformer.ln_f", self.last)]

    def embed(self, state, run):
        return F.embedding(run.tokens, self.weights["transformer.wte.weight"]), None

    def norm(self, name, x):
        return F.layer_norm(x, (x.shape[-1],), self.weights[name + ".weight"], self.weights[name + ".bias"], 1e-5)

    def last(self, state, run):
        return self.norm("transformer.ln_f", state[0]), None

    def attend(self, name, q, k, v, run):
        k, v = run.append(name, k, v)
        return self.merge(attention(q, k, v, causal=q.shape[2] > 1))


class Gpt2(Gpt):
    turned = True

    def embed(self, state, run):
        start = run.cache["length"] if run.cache else 0
        positions = self.weights["transformer.wpe.weight"][start:start + run.tokens.shape[1]]
        return F.embedding(run.tokens, self.weights["transformer.wte.weight"]) + positions, None

    def block(self, name):
        def layer(state, run):
            x = state[0]
            q, k, v = (self.heads(part, self.config["n_head"]) for part in self.linear(name + ".attn.c_attn", self.norm(name + ".ln_1", x), run).chunk(3, 2))
            x = x + self.linear(name + ".attn.c_proj", self.attend(name, q, k, v, run), run)
            inner = F.gelu(self.linear(name + ".mlp.c_fc", self.norm(name + ".ln_2", x), run), approximate="tanh")
            return x + self.linear(name + ".mlp.c_proj", inner, run), None
        return layer

    def logits(self, rows):
        return F.linear(rows, self.weights["transformer.wte.weight"]).float()


class GptJ(Gpt):
    def block(self, name):
        def layer(state, run):
            x = state[0]
            normed = self.norm(name + ".ln_1", x)
            q, k, v = (self.heads(self.linear(f"{name}.attn.{part}_proj", normed, run, bias=False), self.config["n_head"]) for part in "qkv")
            attended = self.attend(name, self.rotate(q, run), self.rotate(k, run), v, run)
            inner = F.gelu(self.linear(name + ".mlp.fc_in", normed, run), approximate="tanh")
            return x + self.linear(name + ".attn.out_proj", attended, run, bias=False) + self.linear(name + ".mlp.fc_out", inner, run), None
        return layer

    def rotate(self, x, run):
        """Turns neighbouring pairs of the first rotary_dim channels of a head by position / 10000^(2i / rotary_dim)."""
        R = self.config["rotary_dim"]
        if "sin" not in run.shared:
            start = run.cache["length"] if run.cache else 0
            positions = torch.arange(start, start + x.shape[2], device=x.device, dtype=torch.float32)
            angles = positions[:, None] / 10000 ** (torch.arange(0, R, 2, device=x.device, dtype=torch.float32) / R)
            run.shared["sin"], run.shared["cos"] = angles.sin(), angles.cos()  # [T, R/2]
        sin, cos = run.shared["sin"], run.shared["cos"]
        pairs = x[..., :R].float().unflatten(-1, (R // 2, 2))
        even, odd = pairs[..., 0], pairs[..., 1]
        turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)
        return torch.cat([turned.to(x.dtype), x[..., R:]], -1)

    def logits(self, rows):
        return F.linear(rows, self.weights["lm_head.weight"], self.weights["lm_head.bias"]).float()


class T5(Model):
    """Version 1.1: gated, an lm_head of its own. The source is run.tokens[0], the decoder's tokens are run.tokens[1]."""
    shifts, encoder_decoder = False, True

    def build(self):
        layers = [("encoder.embed", lambda state, run: (F.embedding(run.tokens[0], self.weights["shared.weight"]), None))]
        layers += [(f"encoder.block.{i}", self.block("encoder", i)) for i in range(self.config["num_layers"])]
        layers += [("encoder.final", lambda state, run: (None, self.norm("encoder.final_layer_norm", state[0])))]
        layers += [("decoder.embed", lambda state, run: (F.embedding(run.tokens[1], self.weights["shared.weight"]), state[1]))]
        layers += [(f"decoder.block.{i}", self.block("decoder", i)) for i in range(self.config["num_decoder_layers"])]
        return layers + [("decoder.final", lambda state, run: (self.norm("decoder.final_layer_norm", state[0]), None))]

    def norm(self, name, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * self.weights[name + ".weight"]

    def block(self, stack, index):
        name, decodes = f"{stack}.block.{index}", stack == "decoder"

        def layer(state, run):
            x, memory = state
            x = x + self.over_self(stack, name + ".layer.0.SelfAttention", self.norm(name + ".layer.0.layer_norm", x), run)
            if decodes:
                x = x + self.over_memory(name + ".layer.1.EncDecAttention", self.norm(name + ".layer.1.layer_norm", x), memory, run)
            ff = f"{name}.layer.{2 if decodes else 1}"
            normed = self.norm(ff + ".layer_norm", x)
            gate = F.gelu(self.linear(ff + ".DenseReluDense.wi_0", normed, run, bias=False), approximate="tanh")
            inner = gate * self.linear(ff + ".DenseReluDense.wi_1", normed, run, bias=False)
            return x + self.linear(ff + ".DenseReluDense.wo", inner, run, bias=False), memory
        return layer

    def split(self, name, x, run):
        return self.heads(self.linear(name, x, run, bias=False), self.config["num_heads"])

    def over_self(self, stack, name, x, run):
        q, k, v = (self.split(f"{name}.{part}", x, run) for part in "qkv")
        if stack == "decoder":
            k, v = run.append(name, k, v)
        if stack not in run.shared:
            run.shared[stack] = self.bias(stack, q.shape[2], k.shape[2], x)
        return self.linear(name + ".o", self.merge(attention(q, k, v, run.shared[stack], scale=1.0)), run, bias=False)

    def over_memory(self, name, x, memory, run):
        q = self.split(name + ".q", x, run)
        if run.continues:
            k, v = run.cache[name]
        else:
            k, v = self.split(name + ".k", memory, run), self.split(name + ".v", memory, run)
            if run.cache is not None:
                run.cache[name] = k, v
        return self.linear(name + ".o", self.merge(attention(q, k, v, scale=1.0)), run, bias=False)

    def bias(self, stack, T, S, x):
        """[1, H, T, S]: half of the buckets for small distances, the rest logarithmic up to 128; minus infinity where a decoder may not look."""
        table = self.weights[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        queries, keys = torch.arange(S - T, S, device=x.device)[:, None], torch.arange(S, device=x.device)[None]
        relative = keys - queries
        buckets = table.shape[0]
        if stack == "encoder":
            buckets //= 2
            first, distance = (relative > 0).long() * buckets, relative.abs()
        else:
            first, distance = 0, (-relative).clamp(min=0)
        exact = buckets // 2
        far = exact + ((distance.clamp(min=1).float() / exact).log() / math.log(128 / exact) * (buckets - exact)).long()
        bias = F.embedding(first + torch.where(distance < exact, distance, far.clamp(max=buckets - 1)), table).permute(2, 0, 1)[None]
        return bias.masked_fill(relative > 0, -math.inf) if stack == "decoder" else bias

    def logits(self, rows):
        return F.linear(rows, self.weights["lm_head.weight"]).float()


# The editor (MEND, section 3) --------------------------------------------------------------------------------------------------------

class Mend:
    def __init__(self, path, device):
        tensors, metadata = read_safetensors(path, device)
        self.weights = [(entry["Name"], entry["InFeatures"], entry["OutFeatures"]) for entry in json.loads(metadata["weights"])]
        self.alpha = tensors["edit_lrs"].requires_grad_()
        self.shapes, self.phi = {}, []
        for shape in {(m, n) for _, m, n in self.weights}:
            key = f"mend.({shape[0]}, {shape[1]})."
            blocks = []
            while f"{key}mlp.layers.{len(blocks)}.u" in tensors:
                names = ("u", "v", "bias", "mode_scale.weight", "mode_shift.weight")
                blocks.append([tensors[f"{key}mlp.layers.{len(blocks)}.{name}"].requires_grad_() for name in names])
            self.phi += sum(blocks, [])
            # of u and of delta: rows seen, mean, sum of squared deviations
            moments = [[float(tensors[key + "k"]), tensors[f"{key}{side}_mean"].float(), tensors[f"{key}{side}_s"].float()] for side in "uv"]
            self.shapes[shape] = blocks, moments

    def propose(self, factors, learns=False):
        """(u, delta) [R, m], [R, n] of each weight to (uTilde, deltaTilde, alpha): W' = W - alpha deltaTilde^T uTilde."""
        updates = {}
        for shape, (blocks, moments) in self.shapes.items():
            names = [name for name, m, n in self.weights if (m, n) == shape]
            sides = [torch.cat([factors[name][side] for name in names]) for side in (0, 1)]
            if learns:
                for rows, moment in zip(sides, moments):
                    count, mean, squares = moment
                    new, total = rows.mean(0), count + rows.shape[0]
                    moment[1] = mean + (new - mean) * (rows.shape[0] / total)
                    moment[2] = squares + (rows - new).pow(2).sum(0) + (new - mean).pow(2) * (count * rows.shape[0] / total)
                    moment[0] = total
            x = torch.cat([(rows - mean) / ((squares / (count - 1)).sqrt() + 1e-7) for rows, (count, mean, squares) in zip(sides, moments)], 1)
            modes = torch.cat([torch.full((factors[name][0].shape[0],), i, device=x.device) for i, name in enumerate(names)])
            for u, v, bias, scale, shift in blocks:
                a = ((x @ v.t()) @ u.t() + bias) * scale[modes] + shift[modes]
                x = x + a.clamp(min=0)
            row = 0
            for name in names:
                end = row + factors[name][0].shape[0]
                index = next(i for i, weight in enumerate(self.weights) if weight[0] == name)
                updates[name] = x[row:end, :shape[0]], x[row:end, shape[0]:], self.alpha[index]
                row = end
        return updates


# Passes ------------------------------------------------------------------------------------------------------------------------------

class Example:
    """Tokens, and which rows of the head's input predict which target."""

    def __init__(self, model, prompt, target, device):
        ids = lambda letters: [2 + ord(letter) for letter in letters]
        tensor = lambda values: torch.tensor(values, device=device)
        if model.encoder_decoder:
            answer = ids(target) + [END]
            self.tokens = tensor([ids(prompt) + [END]]), tensor([[0] + answer[:-1]])
            self.rows, self.targets, self.all = tensor(range(len(answer))), tensor(answer), tensor(range(len(answer)))
        else:
            answer = ids(" " + target)
            first = len(prompt)
            self.tokens = tensor([ids(prompt) + answer])
            self.rows, self.targets, self.all = tensor(range(first - 1, first + len(answer) - 1)), tensor(answer), tensor(range(first + len(answer)))


def nll(model, hidden, example):
    return F.cross_entropy(model.logits(hidden[0, example.rows]), example.targets)


def record(model, example):
    """Forward, loss, back to the outputs of the edited weights alone: (u, delta) of each, rows that are zero in either left out."""
    kept = {}
    run = Run(example.tokens, record=kept)
    loss = nll(model, model.above(model.below(run), run), example)
    deltas = torch.autograd.grad(loss, [z for _, z in kept.values()])
    factors = {}
    for (name, (u, _)), delta in zip(kept.items(), deltas):
        u, delta = u[0].float(), delta[0].float()
        rows = (u != 0).any(1) & (delta != 0).any(1)
        factors[name] = u[rows], delta[rows]
    return loss, factors


@torch.no_grad()
def edit(model, mend, example):
    with torch.enable_grad():
        loss, factors = record(model, example)
    return loss, mend.propose(factors)


def training_step(model, mend, inner, outer, unrelated):
    """Algorithm 1 of the paper for one edit of a window: the gradient of phi and alpha is added to the window's."""
    _, factors = record(model, inner)
    updates = mend.propose(factors, learns=True)
    run = Run(outer.tokens, updates)
    edited = nll(model, model.above(model.below(run), run), outer)
    run = Run(unrelated.tokens)
    below = model.below(run)
    with torch.no_grad():
        before = model.logits(model.above(below, run)[0, unrelated.all]).log_softmax(-1)
    after = model.logits(model.above(below, Run(unrelated.tokens, updates))[0, unrelated.all]).log_softmax(-1)
    total = 0.1 * edited + (before.exp() * (before - after)).sum(1).mean()
    (total / WINDOW).backward()


@torch.no_grad()
def answer(model, prompt, count, device):
    cache = {"length": 0}
    ids = [2 + ord(letter) for letter in prompt] + ([END] if model.encoder_decoder else [])
    ids = torch.tensor([ids], device=device)
    fed, tokens = torch.zeros((1, 1), dtype=torch.long, device=device) if model.encoder_decoder else ids, []
    while len(tokens) < count:
        hidden = model.forward(Run((ids, fed) if model.encoder_decoder else fed, cache=cache))
        tokens.append(int(model.logits(hidden[:, -1])[0].argmax()))
        if tokens[-1] == END:
            raise SystemExit(f"the answer ended after {len(tokens)} of {count} tokens: tokens a second would be wrong")
        fed = torch.tensor([[tokens[-1]]], device=device)
    return tokens


# Measurement -------------------------------------------------------------------------------------------------------------------------

def letters(count, seed):
    return "".join(chr(ord("a") + (seed * 7 + i * 11) % 26) for i in range(count))


def wait(device):
    if device != "cpu":
        torch.cuda.synchronize()


def median_ms(work, device, warm_up, rounds):
    times = []
    for _ in range(warm_up + rounds):
        start = time.perf_counter()
        work()
        wait(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median_high(times[warm_up:])


def memory_gb(device):
    """As GpuBench.cs: what the driver has given out; of the CPU the most that was resident."""
    if device == "cpu":
        return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024 / 1e9
    said = subprocess.run(["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True)
    return float(said.stdout) * 2 ** 20 / 1e9


def main(folder, device, output, what="all"):
    folder, found = Path(folder), {"torch": torch.__version__}
    torch.ones(1, device=device)
    wait(device)
    found["memory_before_gb"] = memory_gb(device)

    start = time.perf_counter()
    config = json.loads((folder / "config.json").read_text())
    weights, mend = read_model(folder, device), Mend(folder / "editor.safetensors", device)
    wait(device)
    load = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e9
    found.update(load_s=load, load_gb=size, load_gb_s=size / load)
    model = {"gpt2": Gpt2, "gptj": GptJ, "t5": T5}[config["model_type"]](weights, config, [name for name, _, _ in mend.weights])

    def texts(seed, more=0):
        return (letters(27 + more, seed), letters(5, seed + 1)) if model.encoder_decoder else (letters(18 + more, seed), letters(9, seed + 1))

    def save():
        Path(output).write_text(json.dumps(found, indent=2))

    example = Example(model, *texts(0), device)
    before, updates = edit(model, mend, example)
    with torch.no_grad():
        found["log_p_before"] = -float(before)
        found["log_p_after"] = -float(nll(model, model.forward(Run(example.tokens, updates)), example))
    found["passes_ms"] = median_ms(lambda: edit(model, mend, example), device, WARM_UP, ROUNDS)
    if what == "all":
        first = median_ms(lambda: answer(model, texts(0)[0], 1, device), device, 1, ASKS)
        found["passes_first_token_ms"] = first
        found["passes_tokens_s"] = 1000 * ANSWER_TOKENS / (median_ms(lambda: answer(model, texts(0)[0], 1 + ANSWER_TOKENS, device), device, 1, ASKS) - first)
    found["memory_after_edits_gb"] = memory_gb(device)
    save()

    optimiser = torch.optim.Adam([{"params": mend.phi, "lr": 1e-6}, {"params": [mend.alpha], "lr": 1e-4}])
    batches = [(Example(model, *texts(i), device), Example(model, texts(100 + i)[0], texts(i)[1], device), Example(model, *texts(200 + i, 4), device)) for i in range(WINDOW)]

    def window():
        for batch in batches:
            training_step(model, mend, *batch)
        torch.nn.utils.clip_grad_norm_([*mend.phi, mend.alpha], 100)
        optimiser.step()
        optimiser.zero_grad(set_to_none=False)

    found["step_ms"] = median_ms(window, device, 1, WINDOWS) / WINDOW
    found["memory_after_training_gb"] = memory_gb(device)
    save()


if __name__ == "__main__":
    main(*sys.argv[1:])
