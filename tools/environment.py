"""Make the environment in .venv from requirements.txt, with attnlib itself installed for editing.

Runs on the system's Python with the standard library alone; `make` calls it when requirements.txt changed.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs on whatever Python the machine has
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"Python 3.11 or newer is needed; this is {found}. Name another: make PYTHON=python3.12 …")
    os.chdir(ROOT)
    print(f"Installing requirements.txt into {ENVIRONMENT.name}: about two minutes, once.", flush=True)
    try:
        venv.create(ENVIRONMENT, with_pip=True)
    except (subprocess.CalledProcessError, ImportError):
        sys.exit("This Python cannot make environments. On Debian and Ubuntu: apt-get install python3-venv")
    # One resolve, so that nothing pulls a second torch beside the pinned one.
    install = [str(PYTHON), "-m", "pip", "install", "--requirement", "requirements.txt", "--editable", "."]
    if subprocess.run(install).returncode:
        sys.exit("The environment is incomplete; the messages above say why. Run the same command again.")
    # Written last: a broken installation has no such file, and the next `make` tries again.
    (ENVIRONMENT / "ready").touch()


if __name__ == "__main__":
    main()
