"""Command lines as getopt(3) of the GNU C library reads them, described by a usage line.

The usage line is the only description of what a command takes:

    -n NAME -s MIB [-S MIB] [-r] [-abc]

A word in capitals is the argument of the letter before it, several letters behind one dash are
flags, and what stands in no brackets must be given.
"""

from collections.abc import Iterator, Sequence


class UsageError(Exception):
    """A command line that the command does not take; the text says why."""


def _words(usage: str) -> Iterator[tuple[str, bool, bool]]:
    """Each letter of a usage line: (letter, takes an argument, must be given)."""
    words = usage.split()
    depth = 0
    for at, word in enumerate(words):
        depth += word.count("[") + word.count("{")
        letters = word.strip("[]{}|")
        if letters.startswith("-"):
            following = words[at + 1].strip("[]{}|") if at + 1 < len(words) else ""
            argument = word[-1] not in "]}" and following.isupper() and following.isalpha()
            for letter in letters[1:]:
                yield letter, argument, depth == 0
        depth -= word.count("]") + word.count("}")


class Options:
    """What was given to ``who``: the last argument of each letter ("" for a flag), operands."""

    def __init__(self, who: str, usage: str, words: Sequence[str]) -> None:
        """Read ``words``; options may follow operands, ``--`` ends them, ``-n5`` is ``-n 5``.

        Raises:
            UsageError: a letter that is not in ``usage``, or a missing argument. What must be
                given is checked by :meth:`complete`, because ``-h`` goes first.
        """
        self.who = who
        self._usage = {letter: argument for letter, argument, _ in _words(usage)} | {"h": False}
        self._required = [letter for letter, _, required in _words(usage) if required]
        self._given: dict[str, str] = {}
        self.operands: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "--":
                self.operands.extend(rest)
            elif word == "-" or not word.startswith("-"):
                self.operands.append(word)
            else:
                self._read(word[1:], rest)

    def _read(self, cluster: str, rest: Iterator[str]) -> None:
        for at, letter in enumerate(cluster):
            takes = self._usage.get(letter)
            if takes is None:
                raise UsageError(f"invalid option -- '{letter}'")
            if takes:
                value = cluster[at + 1 :] or next(rest, None)
                if value is None:
                    raise UsageError(f"option requires an argument -- '{letter}'")
                self._given[letter] = value
                return
            self._given[letter] = ""

    def complete(self) -> None:
        """Raise UsageError if something that must be given is not, or is empty."""
        for letter in self._required:
            if letter not in self or (self._usage[letter] and not self[letter]):
                raise UsageError(f"option -{letter} is needed")

    @property
    def letters(self) -> list[str]:
        """The letters that were given."""
        return list(self._given)

    def __contains__(self, letter: str) -> bool:
        return letter in self._given

    def __getitem__(self, letter: str) -> str:
        """The argument of ``letter``; KeyError if it was not given."""
        return self._given[letter]

    def get(self, letter: str) -> str | None:
        """The argument of ``letter``, None if it was not given."""
        return self._given.get(letter)

    def number(self, letter: str, default: int = 0) -> int:
        """The argument of ``letter`` as a number from 0 to 2**64 - 1.

        Raises:
            UsageError: it is none.
        """
        text = self._given.get(letter)
        if text is None:
            return default
        # int() alone would take signs, underscores and digits of other scripts.
        if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) >> 64:
            raise UsageError(f"option -{letter}: {text!r} is no number")
        return int(text)
