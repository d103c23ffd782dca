"""Whether the programs that speak are here."""

import shutil

import pytest

from moshi_mlx.quality.behaviour.synthesis import ESPEAK, FLITE

needs_synthesizers = pytest.mark.skipif(
    not (shutil.which(FLITE) and shutil.which(ESPEAK)),
    reason="flite or espeak-ng is not installed (scripts/system_packages.sh)",
)
