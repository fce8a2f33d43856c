"""Rows of ARCHITECTURE.md, followed: with the edits of a row, an addition works and the suites pass.

Each edit is needed: without it, a suite or the round trip of the addition fails. All additions are in one copy of the
repository, because most of the time is spent in starting processes there.
"""

import pytest

from tests.architecture.added_job_option import JOB_OPTION
from tests.architecture.added_order import ORDER
from tests.architecture.additions import Addition, Copy, Edit

pytestmark = pytest.mark.timeout(300)

ADDITIONS = (JOB_OPTION, ORDER)
SUITES = [
    "tests/unit/test_codec.py",
    "tests/unit/test_codec_routes.py",
    "tests/unit/test_codec_submit.py",
    "tests/unit/test_job_options.py",
    "tests/unit/test_rows.py",
    "tests/unit/test_topics.py",
    "tests/unit/test_acl.py",
    "tests/unit/test_cli_parser.py",
    "tests/contract/test_job_outputs.py",
    "tests/contract/test_job_store.py",
]
DOCUMENTS = "tests/architecture/test_generated_docs.py::test_a_generated_page_is_current"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("copy"), *ADDITIONS)


@pytest.mark.parametrize("addition", ADDITIONS, ids=lambda addition: addition.row)
def test_the_row_names_the_files_that_change(addition: Addition) -> None:
    assert addition.named_files() == {edit.file for edit in addition.edits.values()}


@pytest.mark.parametrize("addition", ADDITIONS, ids=lambda addition: addition.row)
def test_the_addition_works(copy: Copy, addition: Addition) -> None:
    assert (trip := copy.use(addition)).returncode == 0, trip.stderr


def test_the_suites_pass_once_the_documents_are_generated_again(copy: Copy) -> None:
    needed = {edit.missed_by for addition in ADDITIONS for edit in addition.edits.values() if edit.missed_by}
    assert (tests := copy.check(DOCUMENTS)).returncode != 0, tests.stdout
    assert (written := copy.run("-m", "docs.generate")).returncode == 0, written.stderr
    assert (tests := copy.check(DOCUMENTS, *SUITES, *needed)).returncode == 0, tests.stdout[-3000:]


@pytest.mark.parametrize(
    ("addition", "edit"),
    [
        pytest.param(addition, edit, id=f"{addition.row}: {name}")
        for addition in ADDITIONS
        for name, edit in addition.edits.items()
    ],
)
def test_each_edit_is_needed(copy: Copy, addition: Addition, edit: Edit) -> None:
    with copy.without(edit):
        done = copy.use(addition) if edit.missed_by is None else copy.check(edit.missed_by)
    assert done.returncode != 0, done.stdout
