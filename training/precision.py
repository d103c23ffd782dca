"""Whether training computes in bfloat16: processors that can are faster in it, others many times slower."""

import torch

HAS_BFLOAT16 = torch.cpu._is_avx512_bf16_supported()


def autocast(enabled: bool = True) -> torch.autocast:
    """Matrix products and convolutions in bfloat16 where the processor has them, everything else in float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled and HAS_BFLOAT16)
