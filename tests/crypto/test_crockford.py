"""Groups of a recovery key: a mistake shows where it was made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.crockford import decode_groups, encode_groups
from sovereign_crypto.errors import FormatError

secrets = st.binary(min_size=32, max_size=32)
SECRET = bytes(range(100, 132))
GROUPS = encode_groups(SECRET)
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(secrets)
def test_round_trip(secret):
    groups = encode_groups(secret)
    assert len(groups) == 15
    assert all(len(group) == 5 for group in groups)
    assert decode_groups(" ".join(groups)) == secret


@given(secrets, st.sampled_from(["", " ", "-", "\n", " - ", "\t", "–", "."]), st.booleans())
def test_layout_and_case_do_not_matter(secret, separator, lower):
    text = separator.join(encode_groups(secret))
    assert decode_groups(text.lower() if lower else text) == secret


def test_similar_looking_characters():
    text = " ".join(GROUPS)
    assert decode_groups(text.replace("0", "O").replace("1", "I")) == SECRET
    assert decode_groups(text.replace("0", "o").replace("1", "l")) == SECRET


def test_every_single_wrong_character_names_its_group():
    text = "".join(GROUPS)
    for position, right in enumerate(text):
        for wrong in set(ALPHABET) - {right}:
            with pytest.raises(FormatError, match=rf"group {position // 5 + 1}$"):
                decode_groups(text[:position] + wrong + text[position + 1 :])


def test_every_swap_of_neighbours_names_its_group():
    text = "".join(GROUPS)
    for at in range(len(text) - 1):
        first, second = text[at], text[at + 1]
        if first != second:
            with pytest.raises(FormatError, match=f"group.* {at // 5 + 1}"):
                decode_groups(text[:at] + second + first + text[at + 2 :])


def test_every_swap_of_two_groups_names_both():
    for one in range(15):
        for two in range(one + 1, 15):
            swapped = list(GROUPS)
            swapped[one], swapped[two] = swapped[two], swapped[one]
            with pytest.raises(FormatError, match=f"group {one + 1}, {two + 1}$"):
                decode_groups(" ".join(swapped))


def test_unused_characters_are_named():
    for character in "U!é":
        with pytest.raises(FormatError, match="group 3"):
            decode_groups(" ".join([*GROUPS[:2], character + GROUPS[2][1:], *GROUPS[3:]]))


@pytest.mark.parametrize("text", ["", " ".join(GROUPS[:-1]), " ".join([*GROUPS, GROUPS[0]]), "".join(GROUPS)[:-1]])
def test_wrong_length(text):
    with pytest.raises(FormatError, match="75 characters"):
        decode_groups(text)


def regrouped(number: int) -> str:
    """Encode 300 bits with correct group checks, whatever they mean."""
    from sovereign_crypto.crockford import _check_symbol

    symbols = [number >> 5 * (59 - i) & 31 for i in range(60)]
    groups = [symbols[i : i + 4] for i in range(0, 60, 4)]
    checked = [[*group, _check_symbol(index, group)] for index, group in enumerate(groups)]
    return " ".join("".join(ALPHABET[s] for s in group) for group in checked)


def test_the_checksum_over_everything_counts_too():
    import hashlib

    separated = b"svrn/" + b"v1/recovery/check\0\1" + SECRET
    good = int.from_bytes(b"\1" + SECRET + hashlib.sha256(separated).digest()[:5], "big")
    assert regrouped(good) == " ".join(GROUPS)
    with pytest.raises(FormatError, match="checksum"):
        decode_groups(regrouped(good ^ 1))
    with pytest.raises(FormatError, match="version"):
        decode_groups(regrouped(good ^ 3 << 296))
