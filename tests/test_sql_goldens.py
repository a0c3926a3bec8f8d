"""Queries on known captures give the results that are written down in `tests/sql`."""

import pytest

from tests import sql_goldens


@pytest.mark.parametrize("name", sql_goldens.names())
def test_query_gives_the_expected_rows(name, open_trace):
    expected = sql_goldens.expected(name).read_text(encoding="utf-8")
    assert sql_goldens.run(name, open_trace) == expected


def test_every_result_has_a_query():
    results = {path.stem for path in sql_goldens.FOLDER.glob("*.csv")}
    assert results == set(sql_goldens.names())
