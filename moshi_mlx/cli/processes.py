"""Commands of several processes that `mlx.launch` started: the first one runs them, the others follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from moshi_mlx.cli.options import ModelOptions, WrongUsage

SHARING = ("chat", "serve", "run")  # commands whose model several processes may share
REPEATING = ("transcribe", "translate", "say", "demo", "quantize", "quality", "eval", "bench")  # in each process


@contextmanager
def shared(command: str, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Let the first of several processes run a command, with the options that this gives; others never come here.

    Processes that no launcher started are alone, and nothing is changed. Raises WrongUsage for a command that
    each process would only do again, ConfigError or ProcessError where the others cannot be reached.
    """
    from moshi_mlx.distributed.launcher import is_launched

    command = command.rstrip("_")  # eval_, for Python has an eval
    if command not in (*SHARING, *REPEATING) or not is_launched():
        yield dict(options)
        return
    if command in REPEATING:
        raise WrongUsage(
            f"several processes cannot share the model of `moshi-mlx {command}`; start it without mlx.launch "
            f"({', '.join(SHARING)} and finetune are for several)"
        )
    from moshi_mlx.distributed.follower import follow
    from moshi_mlx.distributed.group import join_group
    from moshi_mlx.distributed.leader import leading

    [(name, model)] = [each for each in options.items() if isinstance(each[1], ModelOptions)]
    group = join_group()
    if group.rank():
        follow(group, offline=model.offline)
    with leading(group) as leader:
        yield {**options, name: replace(model, leader=leader)}
