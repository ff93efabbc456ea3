"""The letter table: which letter names which axis, everywhere in the code.

An array `x_BTHWC` has the axes batch, frame, height, width and channel.
Field shapes in `core.batch`, docstrings and einsum strings use the same letters.
"""

LETTERS = {
    "B": "batch, or folded leading axes",
    "T": "frames in a clip",
    "t": "transitions, T - 1",
    "H": "image height",
    "W": "image width",
    "C": "image channels",
    "Y": "patch rows",
    "X": "patch columns",
    "N": "patches a frame",
    "Z": "latent slots a transition",
    "D": "model width",
    "E": "frozen backbone width",
    "F": "feed-forward width",
    "V": "codebook size",
    "U": "code width",
    "A": "attention heads",
    "K": "attention head width",
    "Q": "query tokens",
    "S": "key or source tokens",
    "L": "language tokens",
    "G": "pyramid branches",
    "J": "steps of an action chunk",
    "M": "action dimensions",
    "I": "proprioception dimensions",
    "P": "camera views",
    "R": "history frames, the present one included",
}
