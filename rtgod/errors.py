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
    """A file, folder or table that was given cannot be used as it is.

    Examples
    --------
    >>> import rtgod
    >>> try:
    ...     rtgod.open_run("nowhere.nii.gz")
    ... except rtgod.InputError as error:
    ...     print(error)
    nowhere.nii.gz does not exist: give a 4-D NIfTI file (.nii, .nii.gz) or a folder of Siemens mosaic DICOM files.
    """


class MissingDependencyError(RtgodError):
    """An optional package or program that this command needs is not installed."""


class WorkerError(RtgodError):
    """The processes that share the work died of it, or are out of reach."""


class WireError(RtgodError):
    """Frames that are not a message of this protocol.

    Parameters
    ----------
    why : str
    run_id : str
        What the message calls itself, where only its values are impossible; empty where it may have been garbled.
    index : int or None
    """

    def __init__(self, why: str, run_id: str = "", index: int | None = None) -> None:
        super().__init__(why)
        self.run_id, self.index = run_id, index


class BundleError(RtgodError):
    """A decoder bundle that is incomplete, altered or of another version."""


class JournalError(RtgodError):
    """A journal that cannot be written or read."""


class CheckpointError(RtgodError):
    """A checkpoint that cannot be written, or read, or that does not fit what is to go on from it."""


class ServerError(RtgodError):
    """The server cannot start or cannot be reached.

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
    """The server answered that it will not take a message."""


def what_went_wrong(error: Exception) -> str:
    """Say what an error says; of one of the operating system, not its number, nor the path, which the message has."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
