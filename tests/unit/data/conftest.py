"""Tokenizer folders in the styles of several model families."""

from tokenizer_fixtures import bpe, chatml, folder, folders, with_template

__all__ = ["bpe", "chatml", "folder", "folders", "with_template"]
