"""What stops a publication before anybody sees anything of it."""


class Refused(Exception):
    """What was asked for would harm clients, or can't be done; the text says what to do about it."""
