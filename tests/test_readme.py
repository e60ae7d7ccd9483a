"""The README's example runs, and prints what its comments say."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_readmes_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "torch.Size([2, 10, 64]) torch.Size([2, 8, 10, 10])\n"


def test_readmes_picture_is_there():
    (picture,) = re.findall(r"!\[.+?\]\((.+?)\)", (ROOT / "README.md").read_text("utf-8"))
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


def test_readmes_commands_are_targets_of_the_makefile():
    commands = re.findall(r"(?:^|`)make (\w+)", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    assert {"book", "test"} <= set(commands)
    assert set(commands) <= set(targets)
