"""Kyutai's protocol of a conversation: its messages, the query that opens it, the audio in it, and a client."""
