"""The error of this package."""


class EncoderError(ValueError):
    """An encoder cannot be built or cannot take an input; the message has the values and what is expected."""
