"""A conversation that a person may decide to keep while it lasts, or at its end.

It is written to disk from its first frame, into a hidden folder of the history, and thrown away unless it is kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moshi_mlx.conversation.history import history_folder, new_folder
from moshi_mlx.conversation.recorder import Recorder
from moshi_mlx.errors import AudioFileError
from moshi_mlx.machine import is_running

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.conversation.turns import Turn
    from moshi_mlx.runtime.reply import Reply

_PREFIX = ".draft-"  # and the process that writes it


class Draft:
    """A recorder whose folder is kept only if somebody asks for it.

    model: for the name it is kept under. about, now: as for `Recorder`. root: the history, unless told otherwise.
    Where the disk refuses a draft that nobody has asked for, the conversation goes on without it.
    """

    def __init__(
        self,
        model: str,
        about: dict[str, Any],
        now: Callable[[], dict[str, Any]] = dict,
        root: Path | None = None,
    ) -> None:
        self.kept: Path | None = None  # where it is kept, once it is
        self._root = root or history_folder()
        self._name = new_folder(model, self._root)
        self._recorder: Recorder | None = None
        with suppress(AudioFileError):
            remove_drafts_of_the_dead(self._root)
            self._recorder = Recorder(self._root / f"{_PREFIX}{os.getpid()}", about, now)

    def add(self, user: np.ndarray, reply: Reply) -> None:
        """Add a frame and its reply. Raises AudioFileError only once the conversation is to be kept."""
        self._try(lambda recorder: recorder.add(user, reply))

    def turn(self, turn: Turn) -> None:
        """Add a turn that is over. Raises as `add`."""
        self._try(lambda recorder: recorder.turn(turn))

    def keep(self) -> Path:
        """Keep the conversation, also what is still to come; from any thread. Returns its folder.

        Raises AudioFileError where the disk has refused to.
        """
        if self._recorder is None:
            raise AudioFileError(f"this conversation cannot be kept: nothing can be written to {self._root}")
        if self.kept is None:
            self._recorder.move(self._name)
            self.kept = self._name
        return self.kept

    def close(self) -> None:
        """Finish what is kept, and throw away what is not."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        if self.kept:
            recorder.close()
            return
        with suppress(AudioFileError):
            recorder.close()
        shutil.rmtree(recorder.folder, ignore_errors=True)

    def _try(self, function: Callable[[Recorder], None]) -> None:
        if self._recorder is None:
            return
        try:
            function(self._recorder)
        except AudioFileError:
            if self.kept:
                raise
            shutil.rmtree(self._recorder.folder, ignore_errors=True)
            self._recorder = None


def remove_drafts_of_the_dead(root: Path) -> None:
    """Remove drafts of programs that were killed: nobody has asked to keep them."""
    for folder in root.glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX)
        ours = number == str(os.getpid())  # left by a program before us, which had our number
        if number.isdecimal() and (ours or not is_running(int(number))):
            shutil.rmtree(folder, ignore_errors=True)
