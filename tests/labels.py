"""Text in a figure."""


def texts(labels):
    """The text of every label."""
    return [label.get_text() for label in labels]
