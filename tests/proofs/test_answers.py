from __future__ import annotations

from random import Random

import pytest

from tests.proofs.answers import (
    ROWS,
    Row,
    cut_everywhere,
    is_as_read,
    left_by,
    random_answer,
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_answer_leaves_the_grant_as_the_table_says(row: Row) -> None:
    """State, generation, marks and presentations, for each row and each documented text."""
    assert left_by(row.answer) == row.after


@pytest.mark.parametrize("seed", range(100))
def test_whatever_is_answered_the_grant_stands_as_the_answer_is_read(seed: int) -> None:
    """JSON, pages, bytes, whole or torn: no more is concluded than the reader understood."""
    answer = random_answer(Random(seed))  # noqa: S311 - repeatable on purpose

    assert is_as_read(answer, left_by(answer)), answer


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_success_cut_anywhere_is_saved_once_its_refresh_token_is_closed(
    is_chunked: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Over a socket, at every byte offset: exactly from the closing quote on the token is kept."""
    cuts = await cut_everywhere(is_chunked=is_chunked)

    assert cuts.closed > 40
    assert (cuts.salvaged, cuts.invented) == (cuts.closed, 0)
