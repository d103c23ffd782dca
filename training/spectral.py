"""How far one recording is from another, for training: log-mel spectra, harmonics, and the samples."""

import torch

from training.voices import SAMPLE_RATE

_SCALES = ((2048, 80), (1024, 64), (512, 40), (256, 20))  # window, mel bands; hops of a quarter window
_HARMONICS = 4096, 1_500  # window, and up to how many Hz: bands of mel do not tell a man's harmonics apart
_HARMONICS_WEIGHT = 3  # as much as so many of the others
_FLOOR = 1e-6


class Distance:
    """Callable: (made, wanted), both [B, samples] → (mel, wave), the mean absolute differences of each."""

    def __init__(self) -> None:
        self._windows = [torch.hann_window(size) for size, _ in _SCALES]
        self._banks = [_mel_bank(size, bands) for size, bands in _SCALES]
        size, highest = _HARMONICS
        self._windows.append(torch.hann_window(size))
        self._banks.append(torch.eye(size // 2 + 1)[: size * highest // SAMPLE_RATE])

    def __call__(self, made: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mel = made.new_zeros(())
        both = torch.cat([made, wanted])
        shares = [1] * len(_SCALES) + [_HARMONICS_WEIGHT]
        for window, bank, share in zip(self._windows, self._banks, shares, strict=True):
            size = len(window)
            spectrum = torch.stft(both, size, size // 4, window=window, return_complex=True, pad_mode="constant")
            power = torch.view_as_real(spectrum).square().sum(-1) / window.square().sum()
            bands = torch.log(torch.einsum("mf,bft->bmt", bank, power) + _FLOOR)
            one, other = bands.chunk(2)
            mel = mel + share * (one - other).abs().mean() / 2  # power to amplitude: half the logarithm
        return mel / sum(shares), (made - wanted).abs().mean()


def _mel_bank(size: int, bands: int) -> torch.Tensor:
    """Triangles [bands, size // 2 + 1] that are equally wide on the mel scale, each of sum 1."""

    def mel(hertz: torch.Tensor) -> torch.Tensor:
        return 2595 * torch.log10(1 + hertz / 700)

    bins = mel(torch.linspace(0, SAMPLE_RATE / 2, size // 2 + 1))
    edges = torch.linspace(0, float(mel(torch.tensor(SAMPLE_RATE / 2))), bands + 2)
    width = edges[1] - edges[0]
    bank = (1 - (bins[None] - edges[1:-1, None]).abs() / width).clamp(min=0)
    return bank / bank.sum(1, keepdim=True).clamp(min=1e-3)
