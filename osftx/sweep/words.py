"""What Hydra takes in an override without a word, and does not do as it reads."""

from collections import Counter
from collections.abc import Iterator, Sequence

from antlr4 import CommonTokenStream, InputStream
from antlr4.tree.Tree import Tree
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser

NO_CHDIR = (
    "hydra.job.chdir=true: relative paths of data and models would lead into another folder; leave it out, since the "
    "folder of a run is output_dir and that of a sweep hydra.sweep.dir"
)


def repeated_keys(words: Sequence[str]) -> Iterator[str]:
    """Yields a problem for each key that a dictionary in an override has twice: Hydra would take the last one."""
    for word in words:
        if "{" not in word:
            continue
        parser = OverrideParser(CommonTokenStream(_lexer(word)))
        parser.removeErrorListeners()
        for keys in _dictionaries(parser.override()):
            for key in (key for key, count in Counter(keys).items() if count > 1):
                yield f"{word}: {key} is there more than once; write it once"


def _lexer(word: str) -> OverrideLexer:
    lexer = OverrideLexer(InputStream(word))
    lexer.removeErrorListeners()
    return lexer


def _dictionaries(tree: Tree) -> Iterator[list[str]]:
    """Yields the keys of each dictionary at any depth."""
    if isinstance(tree, OverrideParser.DictContainerContext):
        yield [pair.dictKey().getText() for pair in tree.dictKeyValuePair()]
    for child in getattr(tree, "children", None) or ():
        yield from _dictionaries(child)
