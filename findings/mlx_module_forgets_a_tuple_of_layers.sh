#!/bin/sh
# MLX 0.32.4: mlx.nn.Module, layers that are kept in a tuple.
#
# What one would think: a module finds the layers in its attributes, in lists and dicts, too, and mlx.utils.tree_map and
# tree_flatten go through tuples as through lists. So self.layers = (first, second) is as good as a list.
# What happens: the module works, but of what is in a tuple it knows nothing. It is not among the parameters, so it is neither
# learned nor saved nor quantized nor frozen nor made bfloat16, and nothing says so; the loss falls all the same where other layers learn.
# Output seen on 2026-12-01:
#   list: 4 parameters, 4 saved, 2 of 2 layers changed by a step, 2 of 2 quantized
#   tuple: 0 parameters, 0 saved, 0 of 2 layers changed by a step, 0 of 2 quantized
#   tree_flatten of the two: 2 leaves in a list, 2 in a tuple
# What to do: keep layers in lists; a check that the number of parameters is what it should be finds the mistake.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
cd "$folder"
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
from mlx import nn
from mlx.optimizers import SGD
from mlx.utils import tree_flatten

mx.set_default_device(mx.cpu)


class Stack(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layers = kind([nn.Linear(32, 32), nn.Linear(32, 32)])
        self.scale = mx.ones(1)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.scale * x


found = {}
for kind in (list, tuple):
    model = Stack(kind)
    x = mx.random.normal((4, 32))
    before = [mx.array(layer.weight) for layer in model.layers]
    loss_and_gradients = nn.value_and_grad(model, lambda x: model(x).square().mean())
    SGD(0.1).update(model, loss_and_gradients(x)[1])
    changed = sum(not mx.array_equal(old, layer.weight) for old, layer in zip(before, model.layers))
    parameters = [name for name, _ in tree_flatten(model.parameters()) if name != "scale"]
    model.save_weights("weights.safetensors")
    saved = [name for name in mx.load("weights.safetensors") if name != "scale"]
    nn.quantize(model, 32, 4)
    quantized = sum(isinstance(layer, nn.QuantizedLinear) for layer in model.layers)
    found[kind] = (len(parameters), len(saved), changed, quantized)
    print(
        f"{kind.__name__}: {len(parameters)} parameters, {len(saved)} saved, {changed} of 2 layers changed by a step, "
        f"{quantized} of 2 quantized"
    )
leaves = [len(tree_flatten(kind([mx.ones(1), mx.ones(1)]))) for kind in (list, tuple)]
print(f"tree_flatten of the two: {leaves[0]} leaves in a list, {leaves[1]} in a tuple")
sys.exit(not (found == {list: (4, 4, 2, 2), tuple: (0, 0, 0, 0)} and leaves == [2, 2]))
EOF
