"""The error of this package."""


class PolicyError(ValueError):
    """The policy cannot be built or cannot take an input; the message has the values and what is expected."""
