"""The README's examples run, and print what they should."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_readmes_examples_run(capsys):
    """One after the other, in one namespace; each in ten lines, apart from what it imports."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    assert [len(example.partition("\n\n")[2].splitlines()) <= 10 for example in examples] == [True, True]
    names = {}
    for example in examples:
        exec(compile(example, "README.md", "exec"), names)
    assert capsys.readouterr().out == "torch.Size([2, 10, 64]) torch.Size([2, 8, 10, 10])\n[5, 5]\n"


def test_readmes_picture_is_there():
    (picture,) = re.findall(r"!\[.+?\]\((.+?)\)", (ROOT / "README.md").read_text("utf-8"))
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


def test_readmes_links_lead_to_files():
    links = re.findall(r"(?<!!)\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert len(links) >= 3
    assert all((ROOT / link).is_file() for link in links)


def test_readmes_commands_are_targets_of_the_makefile():
    commands = re.findall(r"(?:^|`)make ([\w-]+)", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    assert {"book", "test", "test-package"} <= set(commands)
    assert set(commands) <= set(targets)


def test_readmes_versions_are_those_that_are_asked_for_and_installed():
    """The table's lowest are what pyproject.toml asks for; its highest are what requirements.txt pins."""
    readme, pins = ((ROOT / name).read_text("utf-8") for name in ("README.md", "requirements.txt"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for name in ("torch", "NumPy"):
        (tested,) = re.findall(rf"^\| {name} \| (.+?) \|", readme, flags=re.MULTILINE)
        (asked,) = (d.partition(">=")[2] for d in project["dependencies"] if d.startswith(f"{name.lower()}>="))
        (pinned,) = re.findall(rf"^{name.lower()}==(.+)$", pins, flags=re.MULTILINE)
        assert f"{tested.split(', ')[0]}.".startswith(f"{asked}.")
        assert tested.split(", ")[-1] == pinned
