"""From a JSONL file of conversations to packed micro-batches of token ids.

The data flows through the modules in this order: `sources` (read and check the file), `chat` (tokens and loss
mask of one conversation, with `tokenizer` and `template`), `prepare` (the tokenised file on disk), `packing`
(which samples share a micro-batch). None of them imports torch or transformers: the parent process validates
and tokenises data, and has to answer in about a second.
"""
