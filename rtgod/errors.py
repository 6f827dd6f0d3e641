"""Errors that a person can act on; the command line prints each as one line and exits with 2.

The class says which side is to blame, the message what to do about it.
"""


class RtgodError(Exception):
    """Root of every error that rtgod raises on purpose.

    Examples
    --------
    >>> import rtgod
    >>> try:
    ...     rtgod.load_bundle("nowhere")
    ... except rtgod.RtgodError as error:
    ...     print(type(error).__name__)
    BundleError
    """


class InputError(RtgodError):
    """A given file, folder or table that cannot be used as it is.

    Examples
    --------
    >>> import rtgod
    >>> try:
    ...     rtgod.open_run("nowhere.nii.gz")
    ... except rtgod.InputError as error:
    ...     print(error)
    nowhere.nii.gz does not exist: give a 4-D NIfTI file or PAR file, or a folder of one run's DICOM or 3-D NIfTI files.
    """


class MissingDependencyError(RtgodError):
    """An optional package or program that is needed and not installed."""


class WorkerError(RtgodError):
    """Worker processes that died at their work, or that cannot be reached."""


class WireError(RtgodError):
    """Frames that are not a message of this protocol.

    Parameters
    ----------
    why : str
        Reason, for people.
    run_id : str
        The run that the message names, if only its values are impossible; empty if the message may have been garbled.
    index : int or None
        The volume that the message names, under the same condition.
    """

    def __init__(self, why: str, run_id: str = "", index: int | None = None) -> None:
        super().__init__(why)
        self.run_id, self.index = run_id, index


class BundleError(RtgodError):
    """A decoder bundle that is incomplete, altered or of another version."""


class JournalError(RtgodError):
    """A journal that cannot be written or read."""


class CheckpointError(RtgodError):
    """A checkpoint that cannot be written or read, or that does not fit the work to be resumed from it."""


class ServerError(RtgodError):
    """A server that cannot start or cannot be reached.

    Examples
    --------
    >>> import rtgod
    >>> try:
    ...     rtgod.status("127.0.0.1")
    ... except rtgod.ServerError as error:
    ...     print(str(error).partition(" (")[0])
    address '127.0.0.1': write tcp://HOST:PORT
    """


class RefusedError(RtgodError):
    """Refusal of a message by the server."""


def what_went_wrong(error: Exception) -> str:
    """Return the text of an error; for an error of the operating system without its number and path.

    Parameters
    ----------
    error : Exception
    """
    return (isinstance(error, OSError) and error.strerror) or str(error)
