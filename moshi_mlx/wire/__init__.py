"""Kyutai's protocol of a conversation: kinds of messages, and audio in them as Opus in Ogg or as raw samples."""
