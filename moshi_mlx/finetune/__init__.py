"""Fine-tuning: recordings of two people in, an adapter or a model of one's own out.

`data` finds recordings and their words, `streams` lays words out in time, `codes` runs the codec over windows and
keeps what it gives; `batches` draws windows and delays their rows, `loss` says how badly a model predicts them,
`lora` is what an adapter trains, `optimizer` and `trainer` take steps, `run` keeps them on disk.
"""
