"""A process of several that waits: the first for nothing at all, the others for what it tells them."""

import threading

from moshi_mlx.distributed.follower import follow
from moshi_mlx.distributed.group import join_group
from moshi_mlx.distributed.leader import leading

group = join_group()
if group.rank():
    print("waiting", flush=True)
    follow(group)
with leading(group):
    print("waiting", flush=True)
    threading.Event().wait()
