#!/bin/sh
# rustymimi 0.4.1: Tokenizer.reset(), and Tokenizer.encode() between two calls of encode_step().
#
# What one would think: after reset() a tokenizer is as new, so a recording gives the codes that it gave the first time. And that
# encode(), which takes a whole recording, has nothing to do with the stream that encode_step() follows.
# What happens: the last sound before the reset stays in one place (the layer that brings 25 vectors a second down to 12.5), so
# that the first frame after a reset has other codes, all eight of them; from the second on they are right. And encode()
# uses the stream's own state: a stream that is gone on with afterwards has lost its past and has the recording's instead.
# Decoding after a reset differs by rounding alone.
# Output seen (random weights of the published shape, 12 frames, codes that differ in each frame):
#   after a reset:        8 0 0 0 0 0 0 0 0 0 0 0
#   by a new tokenizer:   0 0 0 0 0 0 0 0 0 0 0 0
#   encode() after the third frame: 9 frames of 9 differ
# What to do: after a reset take the first frame's codes from encode() of that frame alone, then reset() once more and give it to
# encode_step(), whose codes are thrown away; or make a new tokenizer. For whole recordings have a tokenizer of their own.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'rustymimi==0.4.1' 'safetensors==0.8.0' 'numpy<3' 2> /dev/null
cd "$folder"
"$folder/env/bin/python" - <<'EOF'
import sys

import numpy as np
import rustymimi
from safetensors.numpy import save_file

rng = np.random.default_rng(0)
weights = {}


def some(name, *shape, scale=None):
    weights[name] = (rng.standard_normal(shape) * (scale or 1.2 / np.prod(shape[1:]) ** 0.5)).astype(np.float32)


def convolution(name, outputs, inputs, kernel):
    some(name + ".weight", outputs, inputs, kernel)
    weights[name + ".bias"] = np.zeros(outputs, np.float32)


def residual(side, place, width):
    convolution(f"{side}.model.{place}.block.1.conv.conv", width // 2, width, 3)
    convolution(f"{side}.model.{place}.block.3.conv.conv", width, width // 2, 1)


def transformer(side):
    for layer in range(8):
        name = f"{side}.transformer.layers.{layer}."
        some(name + "self_attn.in_proj_weight", 1536, 512)
        some(name + "self_attn.out_proj.weight", 512, 512)
        some(name + "linear1.weight", 2048, 512)
        some(name + "linear2.weight", 512, 2048)
        for number in "12":
            weights[f"{name}norm{number}.weight"] = np.ones(512, np.float32)
            weights[f"{name}norm{number}.bias"] = np.zeros(512, np.float32)
            weights[f"{name}layer_scale_{number}.scale"] = np.full(512, 0.2, np.float32)


width, last = 64, 14
convolution("encoder.model.0.conv.conv", width, 1, 7)
for place, ratio in zip((1, 4, 7, 10), (4, 5, 6, 8)):
    residual("encoder", place, width)
    convolution(f"encoder.model.{place + 2}.conv.conv", 2 * width, width, 2 * ratio)
    width *= 2
convolution(f"encoder.model.{last}.conv.conv", 512, width, 3)
convolution("decoder.model.0.conv.conv", width, 512, 7)
for place, ratio in zip((2, 5, 8, 11), (8, 6, 5, 4)):
    some(f"decoder.model.{place}.convtr.convtr.weight", width, width // 2, 2 * ratio, scale=1.2 / (2 * width) ** 0.5)
    width //= 2
    weights[f"decoder.model.{place}.convtr.convtr.bias"] = np.zeros(width, np.float32)
    residual("decoder", place + 1, width)
convolution(f"decoder.model.{last}.conv.conv", 1, width, 3)
transformer("encoder_transformer")
transformer("decoder_transformer")
some("downsample.conv.conv.conv.weight", 512, 512, 4)
some("upsample.convtr.convtr.convtr.weight", 512, 1, 4, scale=0.7)
for part, levels in (("first", 1), ("rest", 7)):
    some(f"quantizer.rvq_{part}.input_proj.weight", 256, 512, 1)
    some(f"quantizer.rvq_{part}.output_proj.weight", 512, 256, 1)
    for level in range(levels):
        book = f"quantizer.rvq_{part}.vq.layers.{level}._codebook."
        some(book + "embedding_sum", 2048, 256, scale=1.0)
        weights[book + "cluster_usage"] = np.ones(2048, np.float32)
        weights[book + "_initialized"] = np.ones(1, np.float32)
save_file(weights, "mimi.safetensors")


def new():
    return rustymimi.Tokenizer("mimi.safetensors", num_codebooks=8)


def codes(tokenizer, frames):
    return np.stack([tokenizer.encode_step(frame).ravel() for frame in frames])


sound = (0.3 * rng.standard_normal((1, 1, 12 * 1920))).astype(np.float32)
frames = np.split(sound, 12, axis=2)
tokenizer = new()
first = codes(tokenizer, frames)
tokenizer.reset()
again = (codes(tokenizer, frames) != first).sum(axis=1)
fresh = (codes(new(), frames) != first).sum(axis=1)
other = new()
codes(other, frames[:3])
other.encode(sound)
after = (codes(other, frames[3:]) != first[3:]).any(axis=1).sum()
print("after a reset:       ", *again)
print("by a new tokenizer:  ", *fresh)
print(f"encode() after the third frame: {after} frames of 9 differ")
sys.exit(not (again[0] > 0 and not again[1:].any() and not fresh.any() and after > 4))
EOF
