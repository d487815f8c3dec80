"""Turns conversations into tokens: the chat template, the tokenizer and the loss mask."""
