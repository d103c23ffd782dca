"""How members of the family are played: a task takes arrays and a loaded model, and gives arrays or words.

Speech to text, top down: `transcribe` (a recording to words), `speculation` (several frames of known audio in one
pass), `words` (tokens to words and pauses with times), `captions` (a transcription to srt, vtt, json, txt, by way
of `subtitles`), `captioner` (the words of somebody who talks with a model), `caption_scheduler` (of several).
Speech to speech in another language: `translate`.
Text to speech: `say` (one text, or several at once), `utterance` (a text in a row of a batch), `voice` (how a
model is given one), `script` (words on their way into the model).
PersonaPlex: `persona` (a voice and a role before the conversation).
"""
