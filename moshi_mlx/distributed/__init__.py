"""One model in several processes, as `mlx.launch` starts them: each computes a part of the temporal transformer.

launcher: what says that there are several. group: joining them. channel: the messages between the first and the
others. leader: the first, which has the engine and decides. follower: the others, which do the same to their part.
"""
