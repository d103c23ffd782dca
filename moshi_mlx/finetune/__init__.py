"""Fine-tuning: recordings of two people in, an adapter or a model of one's own out.

`data` finds recordings and their words, `transcripts` writes those that are missing, `streams` lays words out in
time, `codes` runs the codec over windows and keeps what it gives, `windows` does so for a whole set. `base` is the
model before, `start` one that knows nothing, `estimate` what it will take, `parameters` what of it is trained.
`batches` draws windows, `loss` delays their rows and says how badly a model predicts them, `optimizer` and
`trainer` take steps, on several `lanes` or in several `processes`. `run` keeps them in a `folder` as `output`, and
`report`s; `sample` is what the model says meanwhile.
"""
