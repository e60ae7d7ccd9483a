"""From which size on one way to compute is faster than another."""

from dataclasses import dataclass

__all__ = ["ON_A_CPU", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """What a plan and a choice are made by. The defaults were measured on two cores.

    Attributes:
        few_keys: fewer are computed in one call under a dense mask.
        few_keys_with_dropout: the same where weights are dropped: there, the backward pass computes blocks again.
        few_pairs: of an example with a mask of its own; a call for each example takes longer than one for all.
        many_weights: with dropout, torch stores all weights several times; from so many on, memory matters more.
        few_queries: no more than these are computed with the open keys, in one call, without a plan.
        many_elements: of the keys of a single query. Fewer are read twice in less time than its weights take.
        block: queries. Smaller blocks follow a mask more closely, larger ones keep the processor busier.
        alike: queries of blocks that are alike, as under a window: they share a call, which may be larger.
        together: blocks that share a call, at most: their parts of the gradient are held at a time.
        wide: times as many keys as queries are worth a larger block.
        largest: queries of a block.
        smallest: queries of a block that ends early, where the mask jumps.
        long: keys. A full run of so many is worth a call of its own, without a mask.
        gap: keys. Fewer empty ones between two runs are computed with them.
        most_runs: of a block; more are not worth telling apart.
        most_spans: of open keys of few queries; to put more side by side takes longer than to compute what is between.
        rows: queries whose weights are held at a time, where weights are dropped.
    """

    few_keys: int = 256
    few_keys_with_dropout: int = 512
    few_pairs: int = 2**19
    many_weights: int = 2**26
    few_queries: int = 64
    many_elements: int = 2**17
    block: int = 128
    alike: int = 64
    together: int = 32
    wide: int = 8
    largest: int = 512
    smallest: int = 32
    long: int = 1024
    gap: int = 64
    most_runs: int = 64
    most_spans: int = 8
    rows: int = 128


ON_A_CPU = Sizes()
