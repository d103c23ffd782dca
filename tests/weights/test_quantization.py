"""Quantizations: named by people, written in configs, and read from shapes."""

import mlx.core as mx
import pytest

from moshi_mlx.errors import QuantizationError
from moshi_mlx.weights.quantization import (
    SCHEMES,
    Scheme,
    check_against_block,
    check_against_request,
    main_scheme,
    parse_scheme,
    schemes_from_shapes,
)
from moshi_mlx.weights.safetensors import TensorInfo

Q4, Q8 = SCHEMES["q4"], SCHEMES["q8"]
WIDTH = 128


def quantized(scheme: Scheme, width: int = WIDTH) -> dict[str, TensorInfo]:
    """The tensors MLX itself makes of a layer."""
    arrays = mx.quantize(mx.zeros((8, width)), scheme.group_size, scheme.bits, mode=scheme.mode)
    names = {mx.uint32: "U32", mx.uint8: "U8", mx.float32: "F32"}
    return {
        f"a.b.{name}": TensorInfo(names[array.dtype], array.shape)
        for name, array in zip(("weight", "scales", "biases"), arrays, strict=False)
    }


@pytest.mark.parametrize(
    "scheme",
    [Scheme(bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
    + [Scheme(4, 32, "mxfp4"), Scheme(4, 16, "nvfp4"), Scheme(8, 32, "mxfp8")],
    ids=str,
)
def test_shapes_tell_what_mlx_made(scheme: Scheme) -> None:
    assert schemes_from_shapes(quantized(scheme), {"a.b": WIDTH}) == {"a.b": scheme}


def test_layers_without_scales_are_dense() -> None:
    assert schemes_from_shapes({"a.b.weight": TensorInfo("BF16", (8, WIDTH))}, {"a.b": WIDTH}) == {}


def test_shapes_of_another_width_are_refused() -> None:
    with pytest.raises(QuantizationError, match=r"a\.b is quantized in a way that MLX.*an input of 96"):
        schemes_from_shapes(quantized(Q4), {"a.b": 96})


@pytest.mark.parametrize(
    ("name", "scheme"), [("q4", Q4), ("Q8", Q8), ("4", Q4), (8, Q8), (Scheme(3, 64), Scheme(3, 64))]
)
def test_people_say_q4_or_4(name, scheme: Scheme) -> None:
    assert parse_scheme(name) == scheme


@pytest.mark.parametrize("name", ["q7", "", 3, "bf16"])
def test_unknown_names_are_refused_with_those_known(name) -> None:
    with pytest.raises(QuantizationError, match=r"is unknown; one of q4, q8, q6, .* expected"):
        parse_scheme(name)


def test_a_block_that_agrees_passes() -> None:
    check_against_block({"a": Q4, "b": Q8}, Q4.block() | {"b": Q8.block(), "c": False, "a": True})
    check_against_block({"a": Q4}, {"bits": 4, "group_size": 32})
    check_against_block({"a": Q4}, None)
    check_against_block({}, None)


@pytest.mark.parametrize(
    ("schemes", "block", "message"),
    [
        (
            {"a": Q4},
            Q8.block(),
            r"config says q8 \(8 bits, group 64\) for a, but its shapes are q4 \(4 bits, group 32\)",
        ),
        ({"a": Q4}, {"bits": 4, "group_size": 64}, r"config says q4-g64 \(4 bits, group 64\) for a"),
        ({"a": Q4}, Q4.block() | {"a": False}, r"config says not quantized for a"),
        ({"a": Q4}, Q4.block() | {"a": Q8.block()}, r"config says q8 .* for a"),
        ({}, Q4.block(), r"no quantized weights"),
        ({"a": Q4}, {"bits": "many", "group_size": 32}, r"'quantization' is .*bits and group_size expected"),
        ({"a": Q4}, {"bits": 4}, r"'quantization' is .*bits and group_size expected"),
        ({"a": Q4}, Q4.block() | {"a": "yes"}, r"'quantization\.a' is 'yes'"),
    ],
)
def test_a_block_that_contradicts_the_shapes_is_refused(schemes, block, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        check_against_block(schemes, block)


def test_a_request_may_only_repeat_what_the_file_is() -> None:
    check_against_request(Q4, None, "m")
    check_against_request(Q4, "q4", "m")
    check_against_request(Q4, 4, "m")
    with pytest.raises(QuantizationError, match=r"-q asks for q8 .*, but m is q4 .*; leave -q out"):
        check_against_request(Q4, "q8", "m")
    with pytest.raises(QuantizationError, match=r"-q asks for q4 .*, but m is not quantized"):
        check_against_request(None, "q4", "m")


def test_the_main_scheme_is_that_of_most_layers() -> None:
    assert main_scheme({"a": Q8, "b": Q4, "c": Q4}) == Q4
    assert main_scheme({}) is None
