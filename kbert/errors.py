"""The one exception that means "what you gave is wrong", and nothing else."""

from __future__ import annotations


class InputError(ValueError):
    """A wrong call, file, checkpoint or request.

    The message is one line that names what is wrong, where, and how to mend it. The command line prints it without
    a traceback and exits with code 2; a server answers INVALID_ARGUMENT with it.
    """
