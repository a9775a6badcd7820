"""Names that become a part of a path: every one of them passes here, so that none leads anywhere else."""

__all__ = ["WANTED", "file_name", "fits", "harmless"]

MOST = 80      # bytes of one name: several of them, a digest and an ending are one file's, which may have 255
ENDING = 40    # bytes that are put behind a name: .unfinished, .safetensors, a number of a process
MEANINGFUL = frozenset('/\\:*?"<>|[]')  # to a file system, a shell or a pattern
WANTED = f"a name of at most {MOST} bytes for a file, without {' '.join(sorted(MEANINGFUL))}, not beginning with a dot"


def fits(name: object) -> bool:
    """Whether something is a text that can be a file's name, or a part of one."""
    return isinstance(name, str) and harmless(name) and len(name.encode()) <= MOST


def harmless(name: str) -> bool:
    """Whether a text, of any length, leads nowhere else and means nothing else."""
    return bool(name.strip()) and name.isprintable() and not name.startswith(".") and not MEANINGFUL & set(name)


def file_name(*parts: str) -> str:
    """The name of a file or folder that is made of several, each checked.

    Raises:
        ValueError: one of them is no name, or they are too long together.
    """
    for part in parts:
        if not harmless(part):
            raise ValueError(f"{part!r} cannot be in the name of a file; wanted {WANTED}")
    whole = "-".join(parts)
    if (over := len(whole.encode()) - 255 + ENDING) > 0:
        raise ValueError(f"{whole!r} is {over} bytes too long for the name of a file; give shorter names")
    return whole
