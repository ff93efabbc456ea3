"""What a client is told: the type's name and one line."""


class ServingError(ValueError):
    """A server that cannot be started as asked, or a request that it cannot answer."""


class WireError(ServingError):
    """A frame that is no message; the text says what was expected."""


class RequestError(ServingError):
    """A request whose keys or values are wrong; names key, expected and found."""


class Overloaded(ServingError):
    """More requests wait than the server lets wait; the client may try again."""


class DeadlineExceeded(ServingError):
    """An answer that did not come in time."""


class NotFinite(ServingError):
    """The policy gave numbers that are not finite; none of them is sent."""
