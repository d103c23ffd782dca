"""Taking the speaker's sound out of the microphone's.

`alignment` puts what was heard beside what was played, `control` is the treatment that `--echo` chooses: `kalman`
and `webrtc` cancel, `detector` tells whether there is an echo at all.
"""
