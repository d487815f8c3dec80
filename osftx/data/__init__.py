"""From files of conversations, documents or token ids to packed micro-batches.

The data flows through the modules in this order: `sources` (rows of files and data sets), `formats` (what a row means)
and `chunks` (many of them), `chat` (tokens and loss mask of one conversation, with `tokenizer` and `template`),
`encoding` (in one process or several), `blocks` (documents cut to size), `samples` (the tokenised data on disk),
`mixing` (several of them, by weights or replayed), `packing` (which samples share a micro-batch); `prepare` leads
through all but the last. None of them imports torch or transformers: the parent process checks and tokenises data, and
has to answer in about a second.
"""
