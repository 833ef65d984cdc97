"""The fuzzer's process: `python -m scenarios.fuzz.target DIRECTORY [libFuzzer's arguments]`.

With a directory `corpus` in DIRECTORY, which it fills with whole disks, it runs until it has
found something or its time is up; else it runs the inputs named. It ends the process itself.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["srs.vhd"]):
    from scenarios.fuzz import seeds
    from scenarios.fuzz.judge import Judge

from scenarios.fuzz.mutator import mutate
from scenarios.fuzz.picture import Picture


def main() -> None:
    """Entry point."""
    program, name, *arguments = sys.argv
    home, corpus = Path(name, "home"), Path(name, "corpus")
    home.mkdir()
    judge = Judge(home)
    if corpus.exists():
        for number, path in enumerate(seeds.disks(home)):
            for act in range(len(judge.acts.changes)):
                (corpus / f"{number}-{act}").write_bytes(Picture.of(path, act).pack())
        arguments.append(str(corpus))
    atheris.Setup([program, *arguments], judge, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
