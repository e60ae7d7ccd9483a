"""What the benchmarks conclude from samples, and how they say it. Nothing here measures time."""

import json
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnlib import masks
from benchmarks import report
from benchmarks.cases import DOCUMENT_LENGTHS, Case, cases
from benchmarks.contenders import OURS, Contender, Unavailable, decoding, heads, layer
from benchmarks.measure import Unequal, against, check_equal, equal_contenders, measure
from benchmarks.reasons import REASONS
from benchmarks.timing import Budget, Stopwatch, interleave, order, ratios, summary

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
CPU = torch.device("cpu")
ONE_ROUND = Budget(seconds=0, least=1, most=1)


# Ratios


def test_ratios_are_taken_round_by_round():
    """The machine was slow in the second round, for both: the ratio of the medians would be 1/3."""
    ours, theirs = [1.0, 10.0, 1.0], [2.0, 20.0, 3.0]
    assert ratios(ours, theirs) == [0.5, 0.5, 1 / 3]
    assert against({OURS: ours, "other": theirs}, {}, {})["other"]["ratio"]["median"] == 0.5


def test_rounds_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_a_summary_is_the_median_between_its_quartiles():
    assert summary([5.0, 1.0, 3.0, 2.0, 400.0]) == {"median": 3.0, "lower": 2.0, "upper": 5.0}
    assert summary([7.0]) == {"median": 7.0, "lower": 7.0, "upper": 7.0}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_each_round_times_everybody_once_and_everybody_starts_as_often(count):
    rounds = [order(count, number) for number in range(2 * count)]
    assert all(sorted(turn) == list(range(count)) for turn in rounds)
    assert sorted(turn[0] for turn in rounds) == sorted([*range(count)] * 2)


def test_contenders_are_interleaved_and_prepared_before_each_sample(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.SHORTEST_SAMPLE", 0.0)
    calls = []

    def watch(name):
        return Stopwatch(lambda: calls.append(name), lambda: calls.append(f"prepare {name}"))

    samples = interleave([watch("a"), watch("b")], Budget(seconds=0, least=2, most=9))
    assert [len(times) for times in samples] == [2, 2]
    assert calls[-8:] == ["prepare a", "a", "prepare b", "b", "prepare b", "b", "prepare a", "a"]


# Equality


def contender(*outputs: Tensor) -> Contender:
    return Contender(lambda: outputs)


def case_of(**contenders) -> Case:
    builders = {name: lambda problem, made=made: made for name, made in contenders.items()}
    return Case("section", "row", "the-case", "title", {}, lambda **_: None, builders)


def test_a_contender_that_computes_something_else_is_refused_by_name():
    right, wrong = torch.ones(2, 3), torch.ones(2, 3).index_put((torch.tensor(0), torch.tensor(1)), torch.tensor(1.01))
    with pytest.raises(Unequal, match=r"the-case: theirs differs from attnlib: output by 1\.0e-02"):
        measure(case_of(attnlib=contender(right), theirs=contender(wrong)), CPU, ONE_ROUND)


def test_a_wrong_gradient_is_refused():
    output, gradient = torch.ones(2), torch.ones(3)
    with pytest.raises(Unequal, match="result 1"):
        check_equal("a case", "theirs", (output, -gradient), (output, gradient), 1e-4)


def test_a_wrong_mask_is_refused():
    """The mask's polarity turned around, in a real contender."""

    def inverted(problem):
        return heads.sdpa(replace(problem, mask=~problem.mask))

    case = next(case for case in cases() if case.key == "window-training-float32")
    small = replace(case, sizes={"B": 1, "H": 2, "L": 600, "d": 8}, contenders={OURS: heads.ours, "theirs": inverted})
    with pytest.raises(Unequal, match="theirs"):
        measure(small, CPU, ONE_ROUND)


@pytest.mark.parametrize("wrong", [torch.full((2,), float("nan")), torch.ones(1), torch.ones(2, 1)])
def test_nan_and_other_shapes_are_not_equal(wrong):
    with pytest.raises(Unequal):
        check_equal("a case", "theirs", (wrong,), (torch.ones(2),), 1e-4)


def test_what_cannot_run_is_named_with_the_reason_and_stops_nothing():
    def absent(problem):
        raise Unavailable("no compiler")

    case = replace(case_of(attnlib=contender(torch.ones(1))), targets={"theirs": 0.5})
    found = measure(replace(case, contenders=case.contenders | {"theirs": absent}), CPU, ONE_ROUND)
    assert found["missing"] == {"theirs": "no compiler"}
    assert found["against"]["theirs"] == {"ratio": None, "target": 0.5, "reached": None}


def test_a_target_that_attnlib_has_no_memory_for_is_missed():
    def runs_out(problem):
        return Contender(lambda: (torch.empty(10**15),))

    case = case_of(attnlib=contender(torch.ones(1)), theirs=contender(torch.ones(1)))
    case = replace(case, contenders=case.contenders | {OURS: runs_out}, targets={"theirs": 0.5}, most_bytes=10)
    found = measure(case, CPU, ONE_ROUND)
    assert "memory" in found["missing"][OURS]
    assert found["against"]["theirs"]["reached"] is False
    assert found["memory"] == {"peak_bytes": None, "target_bytes": 10, "reached": False}


# The contenders: every implementation at a small size, equal to attnlib or refused


def small(case: Case) -> Case:
    """Return the case at a size that takes no time, without what is slow to compile."""
    sizes = {name: {"B": 2, "L": 40, "H": 2, "d_model": 16, "d": 8}[name] for name in case.sizes}
    contenders = {name: build for name, build in case.contenders.items() if name != heads.FLEX}
    make_mask = {
        "documents": heads.packed_documents((25, 15)),
        "padded-causal": heads.causal_and_padded((40, 10)),
        "padded": heads.padded((40, 10)),
    }
    kind = next((kind for kind in make_mask if case.key.startswith(kind)), None)
    problem = partial(heads.problem, make_mask=make_mask[kind]) if kind else case.problem
    return replace(case, sizes=sizes, contenders=contenders, problem=problem)


DIFFERENT = {(case.section, case.row, case.dtype, case.training, tuple(case.contenders)): case for case in cases()}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # x-transformers, when it is imported
@pytest.mark.parametrize("case", [small(case) for case in DIFFERENT.values()], ids=lambda case: case.key)
def test_all_contenders_of_a_case_compute_the_same(case):
    problem = case.problem(**case.sizes, dtype=case.dtype, device=CPU, training=case.training)
    with torch.inference_mode(not case.training):
        contenders, missing = equal_contenders(case, problem)
    assert list(contenders) == list(case.contenders)
    assert not missing


def test_what_is_measured_is_what_is_stored():
    case = small(next(case for case in cases() if case.key == "layer-none-64-training-float32"))
    found = measure(case, CPU, ONE_ROUND)
    assert json.loads(json.dumps(found)) == found
    assert set(found["against"]) == {layer.TORCH, layer.FLOOR}
    assert all(entry["seconds"]["median"] > 0 for entry in found["contenders"].values())
    assert all(entry["peak_bytes"] > 0 for entry in found["contenders"].values())


def test_torchs_module_takes_its_fast_path_unless_told_otherwise():
    problem = layer.problem(B=2, L=5, H=2, d_model=8, dtype=torch.float32, device=CPU, training=False)
    for name, enabled in ((layer.TORCH_SLOW, False), (layer.TORCH, True)):
        layer.BUILDERS[name](problem).prepare()
        assert torch.backends.mha.get_fastpath_enabled() is enabled


def test_a_decoding_sample_starts_at_the_same_length_each_time():
    problem = decoding.problem(L=8, H=2, d_model=8, dtype=torch.float32, device=CPU, training=False)
    session = decoding.one_with_cache(problem)
    for _ in range(2):
        session.prepare()
        session.run()
        assert len(session.run.__self__.cache) == 8


def test_the_documents_fill_their_row():
    assert sum(DOCUMENT_LENGTHS) == 4096
    assert (min(DOCUMENT_LENGTHS), max(DOCUMENT_LENGTHS), len(DOCUMENT_LENGTHS)) == (64, 1024, 8)


@pytest.mark.parametrize(
    "make_mask",
    [heads.causal_window(3), heads.packed_documents((4, 3)), heads.padded((7, 2)), heads.causal_and_padded((7, 2))],
    ids=["window", "documents", "padded", "causal and padded"],
)
def test_flexattentions_function_says_what_the_mask_says(make_mask):
    mask = make_mask(CPU)
    dense = mask.dense(7, 7).expand(2, 1, 7, 7)[:, 0]
    batch, query, key = torch.meshgrid(torch.arange(2), torch.arange(7), torch.arange(7), indexing="ij")
    assert torch.equal(mask.allows(batch, torch.zeros((), dtype=torch.int64), query, key), dense)
    assert isinstance(mask, masks.Mask)


# The report


def results(**entry) -> dict:
    """Return results of one case, with one other, as they are stored."""
    seconds = {"median": 0.002, "lower": 0.001, "upper": 0.003}
    ratio = {"median": 1.1, "lower": 1.0, "upper": 1.2}
    return {
        "date": "2026-01-31",
        "machine": {"cpu": "a processor", "cores": 2, "threads": 2, "memory_bytes": 2**34},
        "versions": {"python": "3.11"},
        "cases": [
            {
                "key": "a-case",
                "section": "A section",
                "row": "a row",
                "title": "a title",
                "sizes": {"L": 4},
                "dtype": "float32",
                "mode": "inference",
                "rounds": 3,
                "neighbours": 0.25,
                "contenders": {
                    name: {"seconds": seconds, "peak_bytes": 2_000, "note": ""} for name in (OURS, "theirs")
                },
                "missing": {},
                "against": {"theirs": {"ratio": ratio, "target": 1.0, "reached": False} | entry},
                "memory": None,
            }
        ],
    }


def test_a_missed_target_is_marked_with_how_far_and_why():
    explained = report.explained(results(), {"a-case against theirs": "A reason."})
    assert "| 1.100 (1.000–1.200) | ≤ 1 **missed by 10.0%**: A reason. |" in report.table(explained)
    assert "0 of 1 targets are reached" in report.table(explained)
    assert "other programs took at most 25% of the processor" in report.table(explained)


def test_a_reached_target_needs_no_reason():
    explained = report.explained(results(reached=True), {"*": "A reason."})
    assert "| ≤ 1 ✓ |" in report.table(explained)
    assert "A reason." not in report.table(explained)


def test_a_ratio_without_a_target_is_not_judged():
    text = report.table(report.explained(results(reached=None, target=None)))
    assert "≤" not in text
    assert "0 of 0 targets" in text


def test_who_could_not_run_is_in_the_table_with_the_reason():
    found = results(ratio=None, reached=None)
    found["cases"][0]["missing"] = {"theirs": found["cases"][0]["contenders"].pop("theirs") and "no compiler"}
    assert "| theirs | 2 ms | no compiler |  | ≤ 1 | 2 kB |" in report.table(report.explained(found))


def test_a_missed_limit_of_memory_is_marked():
    found = results()
    found["cases"][0] |= {
        "against": {},
        "memory": {"peak_bytes": 3_000_000_000, "target_bytes": 1_000_000_000, "reached": False},
    }
    assert "| ≤ 1 GB **missed** | 3 GB |" in report.table(report.explained(found))


def test_results_are_written_and_read_back(tmp_path):
    report.write(results(), tmp_path, "cpu")
    assert report.read(tmp_path / "cpu.json") == report.explained(results())
    assert (tmp_path / "cpu.md").read_text("utf-8").startswith("# attnlib beside its peers")
    first = (tmp_path / "cpu.svg").read_bytes()
    report.write(results(), tmp_path, "cpu")
    assert (tmp_path / "cpu.svg").read_bytes() == first


# What is stored


def test_no_two_cases_have_one_name():
    keys = [case.key for case in cases()]
    assert len(set(keys)) == len(keys)


def test_every_target_is_asked_for():
    asked = {(case.key, other): target for case in cases() for other, target in case.targets.items()}
    for pattern, other, target in (
        ("layer-none-512-*", layer.TORCH, 0.95),
        ("layer-causal-4096-*", layer.TORCH, 1.0),
        ("layer-padding-64-*", layer.TORCH, 0.95),
        ("layer-none-*", layer.FLOOR, 1.08),
        ("layer-causal-*", layer.FLOOR, 1.08),
        ("weights-*", layer.TORCH, 0.95),
        ("window-inference-float32", heads.DENSE, 0.14),
        ("window-inference-float32", heads.FLEX, 0.9),
        ("documents-inference-float32", heads.DENSE, 0.1),
        ("padded-inference-float32", heads.DENSE, 0.55),
        ("decoding-all-*", decoding.RECOMPUTED, 0.05),
        ("decoding-one-*", decoding.BERT, 1.0),
        ("small-*", layer.TORCH, 1.0),
    ):
        assert target in [value for (key, name), value in asked.items() if fnmatch(key, pattern) and name == other]
    assert [case.most_bytes for case in cases() if case.most_bytes] == [1_000_000_000]


def test_what_is_quick_is_a_part_of_all():
    quick = cases(quick=True)
    assert {case.key for case in quick} < {case.key for case in cases()}
    assert all(set(case.targets) < set(case.contenders) for case in [*quick, *cases()])


@pytest.mark.skipif(not (RESULTS / "cpu.json").exists(), reason="nothing is stored yet: make bench")
class TestStored:
    stored = report.read(RESULTS / "cpu.json") if (RESULTS / "cpu.json").exists() else None

    def test_every_case_is_there_with_every_other(self):
        found = {case["key"]: set(case["against"]) for case in self.stored["cases"]}
        assert found == {case.key: set(case.contenders) - {OURS} for case in cases()}

    def test_every_target_is_judged(self):
        for case, stored in zip(cases(), self.stored["cases"], strict=True):
            assert {name: entry["target"] for name, entry in stored["against"].items() if entry["target"]} == (
                case.targets
            )
            assert all(stored["against"][name]["reached"] is not None for name in case.targets)
            assert bool(case.most_bytes) == bool(stored["memory"])

    def test_every_miss_is_explained(self):
        entries = [entry for case in self.stored["cases"] for entry in [*case["against"].values(), case["memory"]]]
        assert all(entry["reason"] for entry in entries if entry and entry["reached"] is False)

    def test_the_versions_and_the_machine_are_there(self):
        assert set(self.stored["versions"]) == {"python", "torch", "numpy", "transformers", "x-transformers", "attnlib"}
        assert {"cpu", "cores", "threads", "memory_bytes"} <= set(self.stored["machine"])

    def test_the_table_is_drawn_from_the_results_and_the_reasons(self):
        assert (RESULTS / "cpu.md").read_text("utf-8") == report.table(report.explained(self.stored, REASONS))
