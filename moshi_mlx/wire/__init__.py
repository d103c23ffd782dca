"""Kyutai's protocol of a conversation: its messages, the query that opens it, and the audio in it. No sockets."""
