"""The models of a live conversation: loaded, given back while nobody speaks, and loaded again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moshi_mlx.cli.captions import captioner_beside
from moshi_mlx.runtime.limits import give_back

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.cli.options import ModelOptions
    from moshi_mlx.cli.screen import Screen
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.runtime.prompt import Prompt
    from moshi_mlx.runtime.session import Session
    from moshi_mlx.tasks.captioner import Captioner


class LiveModel:
    """One that talks, and perhaps one that writes captions; `conversation.rest.Reloading`.

    moshi: loaded and warm, of `found`; nobody else may keep it. seed: of every session, None for a random one that
    stays the same. captions: name of the speech-to-text model, None for none.
    """

    def __init__(
        self,
        moshi: Moshi,
        found: Checkpoint,
        model: ModelOptions,
        screen: Screen,
        seed: int | None = None,
        prompt: Prompt | None = None,
        captions: str | None = None,
    ) -> None:
        self._found, self._model, self._screen = found, model, screen
        self._prompt, self._captions = prompt, captions
        self._dropped = 0  # frames without captions, of those that were given back
        self.captioner = self._captioner()
        self.session: Session | None = moshi.session(seed, prompt=prompt)
        self.seed = self.session.seed

    @property
    def losses(self) -> dict[str, int]:
        """Frames that there was no time to write down the words of, where there are captions."""
        if self._captions is None:
            return {}
        return {"captions_dropped": self._dropped + (self.captioner.dropped if self.captioner else 0)}

    def unload(self) -> None:
        """Give the memory back."""
        self.close()
        give_back()

    def load(self) -> tuple[Session, Captioner | None]:
        """Load all again."""
        moshi = self._model.load(self._found, self._screen.note)
        moshi.warm_up()
        self.captioner = self._captioner()
        self.session = moshi.session(self.seed, prompt=self._prompt)
        return self.session, self.captioner

    def close(self) -> None:
        """End the session and the captions; once is enough."""
        session, captioner = self.session, self.captioner
        self.session = self.captioner = None
        if session:
            session.close()
        if captioner:
            self._dropped += captioner.dropped
            captioner.close()

    def _captioner(self) -> Captioner | None:
        if self._captions is None:
            return None
        return captioner_beside(self._found, self._captions, self._model, self._screen)
