"""Taking the speaker's sound out of the microphone's.

`control` is the treatment that `--echo` chooses: `kalman` and `webrtc` cancel, `detector` tells whether there is
an echo at all. `audio/capture` puts what was heard beside what was played.
"""
