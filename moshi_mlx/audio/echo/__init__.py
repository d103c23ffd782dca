"""Taking the speaker's sound out of the microphone's.

`control` is what `--echo` chooses; `kalman` and `webrtc` cancel, `detector` says whether there is an echo at all,
`alignment` puts what was heard beside what was played.
"""
