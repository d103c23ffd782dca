"""Whether MLX computes on this machine what it computes where this package is tested.

The package's own functions are run at Moshi's shapes and types and compared with closed forms in NumPy, operation
by operation, the simple ones first: so the first that differs is the one to name. Nano's recorded conversation
comes last. Nothing is downloaded, and no operation needs more memory than one layer of Moshi.

Files, in reading order: `comparison` is one case and what became of it, `closed_form` what is right, `shapes` at
which shapes; `layers`, `window`, `networks`, `codec`, `draws` and `conversation` are the cases; `worker` runs them
in a process of its own, which MLX may end, `report` says what came of it, `memory` remembers it for `chat`.
"""
