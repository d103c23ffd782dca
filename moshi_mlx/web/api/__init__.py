"""The server in the words of OpenAI's API for speech, which other programs already speak: paths below /v1/.

From the bottom: `errors` (what is refused, in the API's form), `models` (what is served, by name), `routes`.
"""
