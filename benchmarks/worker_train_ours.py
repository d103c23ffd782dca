"""Our side of `finetune_vs_torch.py`: steps of training every weight of a model of Nano's shape.

python worker_train_ours.py BATCH FRAMES
"""

import sys
import time

import mlx.core as mx
from train_codes import made_up, peak_bytes, serve

from moshi_mlx.checkpoint.nano import FOLDER
from moshi_mlx.finetune.loss import make_batch
from moshi_mlx.finetune.parameters import train_all
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.finetune.trainer import Trainer
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.models.lm import Lm


def main() -> None:
    batch, frames = int(sys.argv[1]), int(sys.argv[2])
    config = LmConfig.from_dict(read_json(FOLDER / "config.json"))
    mx.random.seed(0)
    lm = Lm(config)
    settings = Settings(steps=1_000_000, batch=batch, full=True, lr=1e-4, checkpointing=False)
    trainer = Trainer(lm, train_all(lm), settings)

    def step(number: int) -> dict[str, float]:
        codes = made_up(number, batch, frames, config.card, config.text_card)
        begin = time.perf_counter()
        trainer.learn(make_batch(codes, config, settings.padding_weight, settings.semantic_weight))
        seconds = time.perf_counter() - begin
        return {"step": 1000 * seconds, "peak": peak_bytes()}

    serve(step)


main()
