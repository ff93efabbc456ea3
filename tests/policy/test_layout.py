import numpy as np
import pytest
from policy_cases import LAYOUT, smaller

from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.layout import GROUPS, SIGHT, Sight, Tokens, visible

SEES = {
    "context": ("context",),
    "vision": ("context", "vision"),
    "plan": ("context", "vision", "plan"),
    "action": ("context", "vision", "plan", "action"),
}


def mask_loop(names, positions, valid=None, hidden=False):
    """method.md's table, token by token."""
    size = len(names)
    mask = np.zeros((size, size), bool)
    for q, s in np.ndindex(size, size):
        mask[q, s] = names[s] in SEES[names[q]]
        if names[q] == names[s] == "plan":
            mask[q, s] &= positions[s] <= positions[q]
        if hidden and names[q] == "action" and names[s] == "plan" and positions[s] > 0:
            mask[q, s] = False
        if valid is not None:
            mask[q, s] &= valid[s]
    return mask


def names_and_positions(layout=LAYOUT):
    names = [group for group in layout.groups for _ in range(layout.size(group))]
    positions = [i for group in layout.groups for i in range(layout.size(group))]
    return names, positions


def test_sizes_of_the_groups():
    assert {group: LAYOUT.size(group) for group in GROUPS} == {
        "context": 3 + 2 * 2 * 2 + 1,
        "vision": 2,
        "plan": 1 + 4,
        "action": 3,
    }
    assert smaller(transitions=0, vision_grid=(0, 0)).groups == ("context", "action")


def test_the_rule_equals_a_loop_with_padding_and_a_hidden_plan():
    names, positions = names_and_positions()
    valid_BS = np.random.default_rng(0).random((3, len(names))) < 0.6
    hidden_B = np.array([False, True, True])
    tokens = LAYOUT.tokens()
    mask = np.asarray(visible(tokens, tokens, valid_BS, hidden_B))
    assert mask.shape == (3, 1, len(names), len(names))
    for b in range(3):
        np.testing.assert_array_equal(mask[b, 0], mask_loop(names, positions, valid_BS[b], hidden_B[b]))
    np.testing.assert_array_equal(visible(tokens, tokens)[0, 0], mask_loop(names, positions))


def test_no_group_is_seen_by_an_earlier_one():
    assert (SIGHT[np.triu_indices(len(GROUPS), 1)] == Sight.NONE).all()
    assert (SIGHT[np.tril_indices(len(GROUPS))] != Sight.NONE).all()


def test_one_row_of_the_mask_is_that_of_its_query():
    tokens = LAYOUT.tokens()
    whole = visible(tokens, tokens)
    for q in range(len(tokens.group)):
        one = visible(Tokens(tokens.group[q : q + 1], tokens.position[q : q + 1]), tokens)
        np.testing.assert_array_equal(one[0, 0, 0], whole[0, 0, q])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"chunk": -1}, "layout.chunk must be >= 0, found -1"),
        ({"grid": (2, -2)}, r"layout.grid must be >= 0, found \(2, -2\)"),
        ({"slots": 0}, "layout.slots must be >= 1 with 2 transitions"),
        ({"language": 0, "frames": 0, "proprio": 0}, "context is empty"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(PolicyError, match=message):
        smaller(**sizes)
