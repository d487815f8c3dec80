"""Turns files of conversations, documents or token ids into packed micro-batches.

The data passes through the modules in this order: `sources` (rows of files and data sets), `formats` (the meaning of a
row) and `chunks` (many rows), `chat` (tokens and loss mask of one conversation, with `tokenizer` and `template`),
`encoding` (in one process or several), `blocks` (documents cut to size), `samples` (the tokenised data on disk),
`mixing` (several sets of data, by weights or replayed), `packing` (which samples share a micro-batch). `prepare` runs
all of these steps but the last. None of the modules imports torch or transformers: the launching process checks and
tokenises data and must answer in about a second.
"""
