"""What a server grants to one client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """So many a second, for ever, and `burst` at once: what a network held back comes in a moment."""

    a_second: float
    burst: float


@dataclass(frozen=True)
class Limits:
    """How long and how much a client may, and how much of a conversation the model remembers."""

    ping: float = 4.0  # seconds without a message, after which a client gets one
    heartbeat: float = 10.0  # seconds of silence after which it is asked whether it is still there
    stuck: float = 10.0  # seconds for it to take one message
    idle: float = 60.0  # seconds without audio, while others wait for its place
    goodbye: float = 0.5  # seconds for its side of the end
    stats: float = 1.0  # seconds between two messages with statistics
    unsent: int = 25  # frames of audio that wait for a client, 2 seconds; then they are dropped
    unsent_messages: int = 250  # messages of any kind that wait for a client
    waiting: int = 64  # clients that wait for a place, or for the model; with 0 they are refused
    first_request: float = 10.0  # seconds from connecting to the first request, a TLS handshake included
    next_request: float = 15.0  # seconds between an answer and the next request on a connection
    answer: float = 60.0  # seconds for an answer to be taken, conversations aside
    upload: float = 300.0  # seconds for a recording to come in
    max_seconds: float = 600.0  # of a recording that is sent to be transcribed
    tail: float = 60.0  # seconds after what is to be translated, in which a translation has to come to its end
    beside: int = 4  # realtime sessions with models beside the one that talks; others wait for a place
    jobs: int = 16  # requests that are worked on or wait for that, half of them of one address
    connections: int = 1024  # open at once; fewer where there are not enough descriptors
    connections_of_one: int = 256  # of one address
    trim: float | None = None  # seconds of a conversation that outlast context trimming; None: it is never trimmed
    coming: Rate = Rate(20, 100)  # new connections of one address
    requests: Rate = Rate(60, 600)  # of one address; the page makes 50 each time it is opened
    # A phone that was without a network for ten seconds is within all of these.
    messages: Rate = Rate(250, 2_000)  # from a client
    bytes: Rate = Rate(200_000, 4_000_000)  # of its messages; raw audio has 96,000 a second
    work: Rate = Rate(1_000, 4_500)  # units, as in `AudioWire`; pages of 20 ms are 150 a second
    controls: Rate = Rate(0.5, 5)  # new conversations on one connection
    ignored: Rate = Rate(10, 300)  # messages of kinds that mean nothing here
    offences: Rate = Rate(0.1, 3)  # clients of an address ended for more than that, before it has to pause
    stream: Rate = Rate(300_000, 6_000_000)  # bytes on a connection, whatever they are
