"""`vhd-util key`: the hash of the key that a disk is encrypted with."""

import os
from errno import EINVAL, ENOENT

from srs.tools.frame import complain, say
from srs.tools.options import Options, UsageError
from srs.vhd.errors import InvalidImage, StorageFailed
from srs.vhd.labels import digest_of, key_hash, set_key_hash

_BYTES = 32
_KEY_BITS = (256, 512)


def key(options: Options) -> int:
    """Set (``-s``), compare (``-c``) or print (``-p``) a disk's hash, or compute one (``-C``)."""
    actions = {"s": _set, "c": _compare, "p": _print, "C": _compute}
    chosen = [letter for letter in actions if letter in options]
    if len(chosen) != 1:
        raise UsageError("one of -s, -c, -p and -C is needed")
    if chosen != ["C"] and not options.get("n"):
        raise UsageError("option -n is needed")
    return actions[chosen[0]](options)


def _set(options: Options) -> int:
    nonce = _hex(options, "N", bytes(_BYTES))
    if "H" in options:
        digest = _hex(options, "H", b"")
    else:
        digest = digest_of(nonce, _key(options))
    set_key_hash(options["n"], nonce, digest)
    return 0


def _compare(options: Options) -> int:
    recorded = key_hash(options["n"])
    if recorded is None:
        complain(f"{options['n']}: not encrypted")
        return ENOENT
    nonce, digest = recorded
    if digest_of(nonce, _key(options)) != digest:
        complain(f"{options['n']}: another key")
        return EINVAL
    return 0


def _print(options: Options) -> int:
    recorded = key_hash(options["n"])
    say("none" if recorded is None else " ".join(part.hex() for part in recorded))
    return 0


def _compute(options: Options) -> int:
    nonce = _hex(options, "N", bytes(_BYTES))
    say(f"{nonce.hex()} {digest_of(nonce, _key(options)).hex()}")
    return 0


def _hex(options: Options, letter: str, default: bytes) -> bytes:
    """The 32 bytes that ``letter`` gives as 64 hexadecimal digits."""
    text = options.get(letter)
    if text is None:
        return default
    if len(text) != 2 * _BYTES or set(text) - set("0123456789abcdefABCDEF"):
        raise UsageError(f"option -{letter}: {2 * _BYTES} hexadecimal digits are needed")
    return bytes.fromhex(text)


def _key(options: Options) -> bytes:
    """The bytes of the key file, whose name must tell that it is the key of the disk."""
    path = options.get("k")
    if not path:
        raise UsageError("option -k is needed")
    try:
        with open(path, "rb") as file:
            key = file.read(_KEY_BITS[-1] // 8 + 1)
    except OSError as error:
        raise StorageFailed(
            path, "read", os.strerror(error.errno or 0), error.errno or 0
        ) from error
    bits = len(key) * 8
    if bits not in _KEY_BITS:
        raise InvalidImage(path, f"a key of {bits} bits, which no disk is encrypted with")
    disk = options.get("n")
    if disk:
        wanted = f"{os.path.basename(disk).partition('.vhd')[0]},aes-xts-plain,{bits}.key"
        if os.path.basename(path) != wanted:
            raise InvalidImage(path, f"the key of this disk is in a file named {wanted}")
    return key
