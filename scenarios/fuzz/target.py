"""The fuzzer's process: `python -m scenarios.fuzz.target DIRECTORY [libFuzzer's arguments]`.

With a directory `corpus` in DIRECTORY, which it fills with whole disks, it runs until it has
found something or its time is up; else it runs the inputs named. It ends the process itself.
"""

import lzma
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["srs.vhd"]):
    from scenarios.fuzz import seeds
    from scenarios.fuzz.judge import Judge

from scenarios.fuzz.mutator import mutate
from scenarios.fuzz.picture import Picture

LONGEST_INPUT = 8192
_GOLDEN = Path(__file__).parents[2] / "tests/srs/golden"
"""Images of old and foreign writers; an installed package comes without them."""


def _save(picture: Picture, corpus: Path, name: str, acts: int) -> None:
    """A disk as one input for each of the first ``acts`` operations."""
    picture.fit(LONGEST_INPUT)
    for picture.act in range(acts):
        (corpus / f"{name}-{picture.act}").write_bytes(picture.pack())


def main() -> None:
    """Entry point."""
    program, name, *arguments = sys.argv
    home, corpus = Path(name, "home"), Path(name, "corpus")
    home.mkdir()
    judge = Judge(home)
    if corpus.exists():
        for number, path in enumerate(seeds.disks(home)):
            _save(Picture.of(path, 0), corpus, str(number), len(judge.acts.changes))
        for path in sorted(_GOLDEN.glob("*.vhd.xz")):
            judge.acts.disk.write_bytes(lzma.decompress(path.read_bytes()))
            _save(Picture.of(judge.acts.disk, 0), corpus, path.stem, 1)
        arguments.append(str(corpus))
    atheris.Setup([program, f"-max_len={LONGEST_INPUT}", *arguments], judge, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
