"""Hugging Face's transformers, imported in one place and kept quiet."""

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["first_line", "quiet", "transformers"]


def transformers() -> Any:
    """The package.

    Raises:
        ValueError: it is not installed.
    """
    from kdrun.utils import vision

    assert vision  # transformers imports torchvision, which has to be made importable first
    try:
        import transformers as package
    except ImportError as error:
        raise ValueError("transformers is not installed; pip install 'kdrun[text]'") from error
    return package


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's own messages and progress bars."""
    logging = transformers().utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """What went wrong, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
