"""Whisper-base: tokenizer, network, and the model that scores segments with them."""
