"""A learner who knows an exercise's text and the replies of ``check`` alone: each dialogue goes as it is written.

The dialogues are in ``transcripts``; ``⋮`` stands for lines of a reply that are left out.
"""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from attnlib.exercises import check, exercises

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.md"))
ATTEMPT = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)\n```\n(?:\n\*\*The learner:\*\* ([^\n]*)\n)?", re.DOTALL)


def computes(code: str) -> set[str]:
    """Return each call, and each computation, of the code."""
    return {ast.unparse(node) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call | ast.BinOp)}


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


def stable(reply: str) -> str:
    """What a reply says of the exercise: numbers that came out and words of an error differ between versions."""
    said = re.sub(r"( raised \w+): .*", r"\1", reply).split("\ngot")[0].split("\none call")[0]
    return "\n".join(line.rstrip() for line in said.splitlines())


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_a_dialogue_goes_on_as_it_is_written(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    task = exercises[path.stem]
    attempts = ATTEMPT.findall(text)
    assert f"> {task.text}\n" in text
    assert len(attempts) == text.count("## Attempt") > 2
    solution = {line for line in computes(attempts[-1][0]) if line not in task.text}
    for number, (code, reply, learner) in enumerate(attempts, start=1):
        place = f"{path.stem}, attempt {number}"
        namespace: dict[str, object] = {"__name__": "answer"}
        exec(compile(code, place, "exec"), namespace)
        verdict = check(path.stem, namespace[path.stem])
        assert (verdict.message == "Right.") == (number == len(attempts)) == (not learner), (
            f"{place}: {verdict.message}"
        )

        said = stable(verdict.message)
        assert said.splitlines()[0] == stable(reply).splitlines()[0], f"{place}: the reply is now\n{said}"
        left = said
        for piece in filter(None, map(str.strip, stable(reply).split("⋮"))):
            assert piece in left, f"{place}: the reply is now\n{said}"
            left = left.partition(piece)[2]

        # Led by the messages: what the learner quotes stands in this reply, or in the exercise's text.
        for quoted in re.findall("“(.*?)”", learner):
            assert quoted in f"{reply}\n{verdict.message}\n{task.text}", f"{place}: nobody said {quoted}"

        # What the last answer computes, the learner found: no reply showed it.
        shown = [line for line in solution if without_spaces(line) in without_spaces(verdict.message)]
        assert not shown, f"{place}: the reply shows {shown}"
    assert all(before[0] != after[0] for before, after in pairwise(attempts))
