"""The SQL of sources in databases."""

from dataclasses import replace
from typing import Any

import pytest

from stockworker.errors import ConfigError
from stockworker.migration.mapping import Lookup, SourceMapping
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.source import Standing
from stockworker.migration.statements import SqlStyle, Statements

PSYCOPG = SqlStyle('"', "%s", " FOR UPDATE SKIP LOCKED")
JOBS = read_mapping(None, "jobs")


def statements(**changes: Any) -> Statements:
    return Statements(PSYCOPG, replace(JOBS, **changes))


def test_identifiers_are_quoted_and_values_are_bound() -> None:
    odd = statements(
        containers=('app.my"jobs%',), standings={Standing.PENDING: {"a%b": ("x'", None)}}, exclude={"c": ("dead",)}
    )

    assert odd.count(Standing.PENDING) == (
        'SELECT COUNT(*) FROM "app"."my""jobs%%" WHERE ("a%%b" IN (%s) OR "a%%b" IS NULL) AND NOT COALESCE(("c" IN (%s)), FALSE)',
        ("x'", "dead"),
    )


def test_a_page_follows_the_last_id_and_locks() -> None:
    text, values = statements().page(Standing.CLAIMED, 7, 10, lock=True)

    assert text.endswith('WHERE ("status" IN (%s)) AND "id" > %s ORDER BY "id" LIMIT 10 FOR UPDATE SKIP LOCKED')
    assert values == ("migrating", 7)


@pytest.mark.parametrize(
    ("before", "after", "assigned", "bound"),
    [
        (Standing.PENDING, Standing.CLAIMED, '"status" = %s', "migrating"),
        (Standing.CLAIMED, Standing.MOVED, '"status" = %s', "migrated"),
        (Standing.CLAIMED, Standing.PENDING, '"status" = %s', "pending"),
    ],
)
def test_a_shift_writes_the_values_of_the_new_standing(
    before: Standing, after: Standing, assigned: str, bound: str
) -> None:
    text, values = statements().shift([1, 2], before, after)

    assert text.startswith(f'UPDATE "jobs" SET {assigned} WHERE "id" IN (%s, %s) AND ("status" IN (')  # noqa: S608
    assert values[:3] == (bound, 1, 2)


def test_a_column_of_which_the_mapping_has_no_pending_value_becomes_null() -> None:
    made = statements(
        standings={
            Standing.PENDING: {"state": ("new", "retry")},
            Standing.CLAIMED: {"state": ("busy",), "owner": ("migration",)},
            Standing.MOVED: {"state": ("moved",)},
        }
    )

    assert made.shift([1], Standing.CLAIMED, Standing.PENDING)[1][:2] == ("new", None)
    assert made.shift([1], Standing.CLAIMED, Standing.MOVED)[1][:2] == ("moved", None)


def test_moved_rows_are_deleted_if_the_mapping_wants_that() -> None:
    text, _ = statements(deletes=True).shift([1], Standing.CLAIMED, Standing.MOVED)

    assert text == 'DELETE FROM "jobs" WHERE "id" IN (%s) AND ("status" IN (%s))'


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"kind": "queue"}, "must name one table of a database"),
        ({"containers": ("a", "b")}, "must name one table of a database"),
        ({"id": Lookup("payload", ("json", ".id"))}, "'id' of the mapping must be a column"),
    ],
)
def test_a_mapping_for_another_kind_of_source_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        statements(**changes)


def test_a_missing_standing_is_named() -> None:
    mapping: SourceMapping = replace(JOBS, standings={Standing.PENDING: {"status": ("new",)}})

    with pytest.raises(ConfigError, match=r"standings\.claimed is missing in the mapping"):
        Statements(PSYCOPG, mapping).shift([1], Standing.PENDING, Standing.CLAIMED)
