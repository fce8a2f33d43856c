"""Names below folders of other users: which are followed, and which are refused."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stockworker.adapters.files import (
    PUBLIC,
    make_folder,
    open_folder,
    read_file,
    remove_file,
    replace_file,
    replacing,
    who_can_change,
)

STICKY_FOR_ALL = 0o1777


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder in which every user can replace names."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder to which links lead, with a file."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file").write_text("before")
    return folder


def write(path: Path) -> None:
    replace_file(path, b"after", PUBLIC)


def make(path: Path) -> None:
    make_folder(path.parent / "new", 0o755)


USES: tuple[Callable[[Path], object], ...] = (write, read_file, remove_file, make)


def test_a_new_file_and_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "one" / "two" / "file"
    make_folder(file.parent, 0o750, (os.geteuid(), os.getegid()))
    replace_file(file, b"content", 0o640, modified_s=1000.0)
    assert file.read_bytes() == b"content"
    assert (file.stat().st_mode & 0o7777, file.stat().st_mtime) == (0o640, 1000.0)
    assert {folder.stat().st_mode & 0o7777 for folder in (file.parent, file.parent.parent)} == {0o750}
    assert [each.name for each in file.parent.iterdir()] == ["file"]


def test_what_is_missing_is_nothing(tmp_path: Path) -> None:
    assert read_file(tmp_path / "none" / "file") is None
    remove_file(tmp_path / "none" / "file")
    with pytest.raises(FileNotFoundError) as failed:
        write(tmp_path / "none" / "file")
    assert failed.value.filename == str(tmp_path / "none" / "file")


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_a_link_that_others_can_have_made_is_not_followed(
    shared: Path, elsewhere: Path, use: Callable[[Path], object]
) -> None:
    (shared / "folder").symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"'folder' is a link, and every user can change where it leads. Remove it"):
        use(shared / "folder" / "file")
    assert [each.name for each in elsewhere.iterdir()] == ["file"]
    assert (elsewhere / "file").read_text() == "before"


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize("target", ["../elsewhere", "{}"])
def test_a_link_of_an_administrator_is_followed(
    tmp_path: Path, elsewhere: Path, use: Callable[[Path], object], target: str
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "folder").symlink_to(target.format(elsewhere))
    use(tmp_path / "own" / "folder" / "file")


def test_a_link_of_this_user_in_a_sticky_folder_is_followed(shared: Path, elsewhere: Path) -> None:
    (shared / "folder").symlink_to(elsewhere)
    shared.chmod(STICKY_FOR_ALL)
    assert read_file(shared / "folder" / "file") == b"before"


def test_a_link_to_a_link_is_judged_too(tmp_path: Path, shared: Path, elsewhere: Path) -> None:
    (shared / "planted").symlink_to(elsewhere)
    (tmp_path / "honest").symlink_to(shared / "planted")
    with pytest.raises(OSError, match=r"'planted' is a link"):
        read_file(tmp_path / "honest" / "file")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match=r"Too many levels of symbolic links|Not a directory"):
        read_file(tmp_path / "circle" / "file")


@pytest.mark.parametrize("target", ["file", "dangling"])
def test_a_link_in_the_place_of_a_file_is_not_replaced(tmp_path: Path, elsewhere: Path, target: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(elsewhere / target)
    with pytest.raises(OSError, match=r"'link' is a link. Remove it, or name the file that it leads to"):
        write(link)
    assert link.is_symlink()
    assert [(each.name, each.read_text()) for each in elsewhere.iterdir()] == [("file", "before")]


def test_a_link_under_the_temporary_name_is_removed(shared: Path, elsewhere: Path) -> None:
    (shared / "file.new").symlink_to(elsewhere / "file")
    write(shared / "file")
    assert (shared / "file").read_bytes() == b"after"
    assert (elsewhere / "file").read_text() == "before"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError, ValueError])
def test_an_interruption_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def write_a_part() -> None:
        with replacing(tmp_path / "file", PUBLIC) as file:
            file.write(b"new" * 1_000_000)
            raise interruption

    with pytest.raises(interruption):
        write_a_part()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}
    with replacing(tmp_path / "file", PUBLIC) as file:
        file.write(b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"new"}


def test_what_is_not_a_file_is_not_replaced(tmp_path: Path) -> None:
    """As root, a command would replace /dev/null for all programs."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"not a regular file\. Remove it, or choose another name"):
        replace_file(tmp_path / "pipe", b"new", PUBLIC)
    with pytest.raises(OSError, match="not a regular file"), replacing(tmp_path / "pipe", PUBLIC):
        pass
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_is_removed_itself(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "link").symlink_to(elsewhere / "file")
    remove_file(tmp_path / "link")
    assert (elsewhere / "file").read_text() == "before"
    assert not (tmp_path / "link").is_symlink()


def test_a_pipe_does_not_make_a_reader_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"not a regular file"):
        read_file(tmp_path / "pipe")


def test_an_open_folder_stays_the_same_under_another_name(tmp_path: Path, elsewhere: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with open_folder(folder) as descriptor:
        folder.rename(tmp_path / "moved")
        folder.symlink_to(elsewhere)
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    assert [each.name for each in (tmp_path / "moved").iterdir()] == ["new"]


def test_who_can_replace_files_while_a_program_uses_their_names(tmp_path: Path, shared: Path) -> None:
    (shared / "own").mkdir()
    assert who_can_change(tmp_path) is None
    assert who_can_change(shared) == "every user"
    assert who_can_change(shared / "own") == "every user"
    shared.chmod(0o770)
    assert who_can_change(shared / "own") == "its group"
    shared.chmod(STICKY_FOR_ALL)
    assert who_can_change(shared) == "every user"
    assert who_can_change(shared / "own") is None
