"""Instructions as token ids: bytes, which need no file, or the pieces of T5."""
