"""Jobs: the order of priorities, and their labels in topics and configuration."""

from stockworker.protocol.job import PRIORITY_BY_LABEL, Priority


def test_priorities_sort_from_the_most_to_the_least_urgent() -> None:
    assert sorted(Priority) == [Priority.HIGH, Priority.NORMAL, Priority.LOW]


def test_labels_are_the_words_that_topics_and_configuration_use() -> None:
    assert [priority.label for priority in Priority] == ["high", "normal", "low"]


def test_each_label_leads_back_to_its_priority() -> None:
    assert {PRIORITY_BY_LABEL[priority.label] for priority in Priority} == set(Priority)
