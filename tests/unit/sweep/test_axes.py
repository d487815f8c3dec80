"""Axes that a sweep cannot follow. Varied groups, which need Hydra's composition, are tested in test_cli."""

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from osftx.sweep.axes import axis_problems


def composed(*words: str, **params: Any) -> DictConfig:
    return OmegaConf.create({"hydra": {"overrides": {"task": list(words)}, "sweeper": {"params": params}}})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=1,2,1"], "seed=1,2,1: 1 and 1 would be jobs that are the same"),
        (["lr=1e-5,0.00001"], "1e-05 and 1e-05 would be jobs that are the same"),
        (["lr=1,1.0"], "1 and 1.0 would be jobs that are the same"),
        (["path=choice(a,b,a)"], "a and a would be jobs"),
        (["seed=1,2", "seed=3"], "seed: is varied and given more than once (seed=1,2, seed=3)"),
        (["seed=3", "++seed=1,2"], "seed: is varied and given more than once (seed=3, ++seed=1,2)"),
        (["seed=1,2", "seed=range(3)"], "seed: is varied and given more than once"),
        (["model.path=x,'x'"], "model.path=x,'x': x and 'x' would be jobs that are the same"),
        (["model.path='x',\"x\""], "would be jobs that are the same"),
        (["lr=1e-5,'0.00001'"], "would be jobs that are the same"),
        (["order=[a,b],['a',\"b\"]"], "would be jobs that are the same"),
        (["phase={a:1,b:x},{b:'x',a:1.0}"], "would be jobs that are the same"),
        (["a.b.c=5,6", "++a.b={c:9}"], "a.b.c: is varied and given more than once (a.b.c=5,6, ++a.b={c:9})"),
        (["a.b.c=5,6", "++a={b:{c:9}}"], "a.b.c: is varied and given more than once"),
        (["++a={b:{c:9}}", "a.b.c=5,6"], "a.b.c: is varied and given more than once"),
        (["a.b.c=5,6", "a.b=null"], "a.b.c: is varied and given more than once"),
        (["a.b.c=5,6", "~a.b"], "a.b.c: is varied and given more than once"),
        (["a={b:1},{b:2}", "a.b.c=3"], "a: is varied and given more than once"),
        (["a={b:1},{b:2}", "a.b=range(3)"], "a: is varied and given more than once"),
        (["ratio.more=1"], "ratio: is varied and given more than once"),
        (["++ratio=0.1"], "ratio: is varied and given more than once (++ratio=0.1, ratio=0.1,0.2)"),
    ],
)
def test_axes_of_which_one_would_be_lost_or_run_twice_are_refused(words: list[str], says: str) -> None:
    (problem,) = axis_problems(composed(*words, ratio="0.1,0.2"))
    assert says in problem


def test_a_dictionary_of_the_search_space_that_names_a_key_twice_is_refused() -> None:
    (problem,) = axis_problems(composed(settings="{a:1,a:2},{a:3}"))
    assert "a is there more than once" in problem


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1,2", "lr=1e-5,1e-6"],
        ["ratio=0.3"],  # the command line comes before the file, as is documented
        ["ratio=0.3,0.4"],
        ["seed=1", "seed=2"],  # the last one counts, as everywhere in Hydra
        ["seed=range(1,4)", "kind=a,b", "flag=true,false"],
        ["order=[a,b],[b,a]"],
        ["a.b.c=5,6", "++a.b={d:9}"],
        ["a.b=5,6", "a.bc=7"],
        ["a={b:1},{b:2}", "a.c=3"],
        ["seed=9007199254740992,9007199254740993"],
        ["name=a,A,'a b'", "path=nan,inf"],
        ["phase@phases.a=x,y", "phases.a.c=1"],
        ["lr=interval(0.1,0.2)"],
        ["seed=1,("],  # Hydra reports it
    ],
)
def test_what_hydra_follows_is_no_problem(words: list[str]) -> None:
    assert axis_problems(composed(*words, ratio="0.1,0.2")) == []
