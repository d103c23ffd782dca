#!/bin/sh
# MLX 0.32.4 on the CPU: softmax, cumsum and logcumsumexp of bfloat16, over more than 256 numbers.
#
# What one would think: they accumulate in float32 and round once, as sum, mean and logsumexp do beside them.
# What happens: they accumulate in the type of the array. A bfloat16 has 8 bits of precision, so a sum of ones stays at 256:
# from 257 numbers on, a flat softmax is too large by n / 256 (a vocabulary of 32,000: 125 times), and a running sum of
# probabilities stops long before 1, which is where nucleus sampling looks. float16 does the same from 2,048 on.
# Output seen:
#   softmax of 32000 equal bfloat16 sums to 125.00 (precise=True: 1.00), of float16 to 15.62
#   cumsum of 1000 ones in bfloat16 ends at 256, their sum is 1000
#   logcumsumexp of 1000 zeros in bfloat16 ends at 4.16, their logsumexp is 6.91
# What to do: softmax(..., precise=True), and astype(float32) before cumsum and logcumsumexp; or sample from float32 logits.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - > "$folder/seen" <<'EOF'
import mlx.core as mx

mx.set_default_device(mx.cpu)


def mass(dtype, precise=False):
    return mx.sum(mx.softmax(mx.zeros((32_000,), dtype), precise=precise).astype(mx.float32)).item()


whole, exact, half = mass(mx.bfloat16), mass(mx.bfloat16, precise=True), mass(mx.float16)
print(f"softmax of 32000 equal bfloat16 sums to {whole:.2f} (precise=True: {exact:.2f}), of float16 to {half:.2f}")
ones, zeros = mx.ones((1000,), mx.bfloat16), mx.zeros((1000,), mx.bfloat16)
print(f"cumsum of 1000 ones in bfloat16 ends at {mx.cumsum(ones)[-1].item():.0f}, their sum is {mx.sum(ones).item():.0f}")
running, at_once = mx.logcumsumexp(zeros)[-1].item(), mx.logsumexp(zeros).item()
print(f"logcumsumexp of 1000 zeros in bfloat16 ends at {running:.2f}, their logsumexp is {at_once:.2f}")
EOF
cat "$folder/seen"
grep -q '^softmax of 32000 equal bfloat16 sums to 125.00 (precise=True: 1.00), of float16 to 15.62$' "$folder/seen" &&
    grep -q '^cumsum of 1000 ones in bfloat16 ends at 256, their sum is 1000$' "$folder/seen" &&
    grep -q '^logcumsumexp of 1000 zeros in bfloat16 ends at 4.16, their logsumexp is 6.91$' "$folder/seen"
