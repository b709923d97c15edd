"""A training step of ours beside the same network in eager PyTorch: `python tests/beside_pytorch.py [--shape=B,N,D,H,L]`.

A pre-norm transformer on random tokens, AdamW, float32, on the CPU. Each side runs in a process of its own, in turn, so that
neither's threads hinder the other's and what else the machine does falls on both. No test: it asserts nothing about time.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

SHAPES = {"vit-s": (16, 197, 384, 6, 6), "vit-b": (8, 197, 768, 12, 12)}  # batch, tokens, width, heads, layers


def ours(B, N, D, H, L):
    """-> function of nothing that does one step, compiled as `xmodal_jax.main` compiles it."""
    import jax
    import jax.numpy as jnp
    import optax

    from xmodal_jax.models.transformer import Stack
    from xmodal_jax.train.program import COMPILER_OPTIONS

    stack, optimizer = Stack(L, D, H), optax.adamw(1e-3)
    x = jax.random.normal(jax.random.PRNGKey(0), (B, N, D))
    params = jax.jit(stack.init)(jax.random.PRNGKey(0), x)["params"]

    def update(params, state, x):
        loss, grads = jax.value_and_grad(lambda params: jnp.mean(stack.apply({"params": params}, x)[0] ** 2))(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    state = jax.jit(optimizer.init)(params)
    lowered = jax.jit(update, donate_argnums=(0, 1)).lower(params, state, x)
    compiled, carry = lowered.compile(compiler_options=COMPILER_OPTIONS["cpu"]), [params, state]

    def step():
        *carry[:], loss = compiled(*carry, x)
        return float(loss)

    return step


def pytorch(B, N, D, H, L):
    """-> function of nothing that does one step of the same network in eager PyTorch."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_attention, self.norm_mlp = nn.LayerNorm(D), nn.LayerNorm(D)
            self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
            self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

        def forward(self, x):
            q, k, v = self.qkv(self.norm_attention(x)).view(B, N, 3, H, D // H).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(q, k, v)  # [B, H, N, d]
            x = x + self.out(y.transpose(1, 2).reshape(B, N, D))
            return x + self.down(nn.functional.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))

    model = nn.Sequential(*[Block() for _ in range(L)], nn.LayerNorm(D))
    optimizer, x = torch.optim.AdamW(model.parameters(), 1e-3), torch.randn(B, N, D)

    def step():
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def measure(side, shape, steps):
    """Seconds of every step after three, and CPU seconds a step."""
    step = {"ours": ours, "pytorch": pytorch}[side](*shape)
    for _ in range(3):
        step()
    seconds, before = [], resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"seconds": seconds, "cpu": used / steps, "faults": (after.ru_minflt - before.ru_minflt) // steps}


def measure_apart(side, shape, steps):
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, f"--side={side}", f"--shape={','.join(map(str, shape))}", f"--steps={steps}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="vit-s", help="vit-s, vit-b, or batch,tokens,width,heads,layers")
    parser.add_argument("--steps", type=int, default=10, help="counted steps of a round")
    parser.add_argument("--rounds", type=int, default=3, help="of both sides in turn")
    parser.add_argument("--side", choices=("ours", "pytorch"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    shape = SHAPES.get(args.shape) or tuple(map(int, args.shape.split(",")))
    if args.side:
        print(json.dumps(measure(args.side, shape, args.steps)))
        return
    medians = {"pytorch": [], "ours": []}
    for _ in range(args.rounds):
        for side, found in medians.items():
            values = measure_apart(side, shape, args.steps)
            found.append(statistics.median(values["seconds"]))
            print(
                f"{side:8} median {found[-1]:.3f} s, least {min(values['seconds']):.3f} s a step; "
                f"{values['cpu']:.2f} s of CPU, {values['faults']} page faults",
                flush=True,
            )
    ratio = statistics.median(medians["ours"]) / statistics.median(medians["pytorch"])
    print(f"ours / PyTorch, medians of {args.rounds} rounds: {ratio:.2f}")


if __name__ == "__main__":
    main()
