#!/bin/sh
# rustymimi 0.4.1 and moshi 0.2.13 (PyTorch): the window of Mimi's transformers, 250 positions of 40 ms.
#
# What one would think: two programs of the same authors that read the same weights give the same codes for a recording, however
# long it is.
# What happens: they do for 125 frames (10 s). From then on, when the window is full, a code differs here and there: rustymimi attends
# to 251 positions, the one it is at and 250 before it; PyTorch to 250 with the one it is at. Widened by one position
# PyTorch gives rustymimi's codes, all of them.
# Output seen (random weights of the published shape, 160 frames, 8 codebooks):
#   PyTorch with a window of 250: 100.00 % of the codes of the first 124 frames are rustymimi's, 99.31 % of the later ones
#   PyTorch with a window of 251: 100.00 % of the codes of the first 124 frames are rustymimi's, 100.00 % of the later ones
# (With trained weights, which look further back, as few as 87 % of the later codes have been seen to agree.)
# What to do: compare codes of the two for ten seconds at most, or set the window of one of them to that of the other; train and
# evaluate on the codes of the program that will encode at the end.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
pip() { "$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check "$@" 2> /dev/null; }
pip 'rustymimi==0.4.1' 'torch==2.13.0' 'safetensors==0.8.0' 'numpy<3' 'einops<0.9' 'sentencepiece<0.3' 'huggingface_hub<2'
pip --no-deps 'moshi==0.2.13' # by itself it wants an older PyTorch; its Mimi needs nothing else
cd "$folder"
"$folder/env/bin/python" -W ignore - <<'EOF'
import sys

import numpy as np
import rustymimi
import torch
from moshi.models import loaders
from safetensors.torch import save_file

FRAMES, FRAME, FULL = 160, 1920, 124
torch.set_num_threads(1)


def mimi(window):
    """PyTorch's, always with the same random weights, which neither fade nor look at the last position alone."""
    torch.manual_seed(0)
    model = loaders.get_mimi(None, device="cpu", num_codebooks=8).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "layer_scale" in name:
                weight.fill_(0.5)
            if name.startswith(("encoder.", "downsample")) and weight.dim() == 3:
                weight.mul_(2)
            if "input_proj" in name:
                weight.mul_(3)
            if "in_projs" in name:  # queries and keys
                weight[:1024].mul_(2)
        for name, table in model.named_buffers():
            if name.endswith("embedding_sum"):
                table.copy_(torch.randn(table.shape, generator=torch.Generator().manual_seed(len(name))))
            if name.endswith(("cluster_usage", "_initialized")):
                table.fill_(1)
    for layer in model.encoder_transformer.transformer.layers:
        layer.self_attn.context = window
    return model


published = (("in_projs.0.weight", "in_proj_weight"), ("out_projs.0.", "out_proj."))  # as its file names them
weights = {}
for name, tensor in mimi(250).state_dict().items():
    for old, new in published:
        name = name.replace(old, new)
    weights[name] = tensor.contiguous()
save_file(weights, "mimi.safetensors")

noise = np.random.default_rng(0).standard_normal(FRAMES * FRAME) * 0.1
pcm = (noise * (1 + np.sin(2 * np.pi * 0.7 * np.arange(len(noise)) / 24_000))).astype(np.float32)
tokenizer = rustymimi.Tokenizer("mimi.safetensors", num_codebooks=8)
steps = [tokenizer.encode_step(frame[None, None]) for frame in pcm.reshape(FRAMES, FRAME)]
theirs = np.concatenate(steps, axis=-1)[0]

seen = []
for window in (250, 251):
    with torch.no_grad():
        codes = mimi(window).encode(torch.from_numpy(pcm)[None, None])[0].numpy()
    same = codes == theirs
    seen.append((same[:, :FULL].mean(), same[:, FULL:].mean()))
    print(
        f"PyTorch with a window of {window}: {seen[-1][0]:.2%} of the codes of the first {FULL} frames are rustymimi's, "
        f"{seen[-1][1]:.2%} of the later ones".replace("%", " %")
    )
changed = seen[0][0] != 1 or seen[0][1] == 1 or seen[1] != (1, 1)
sys.exit(int(changed))
EOF
