"""News of a table that moves: shown in the order of its making, each once, whichever node's comes first."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from game.messages import TableView
from game.news import MOST, InOrder

VIEW = TableView("table/oak", 0, "ann", (50, 100), None, "", (), 0, None, None, "", (), None)


def view(sequence: int) -> TableView:
    return replace(VIEW, sequence=sequence)


def shown(views: list[TableView]) -> list[int]:
    return [one.sequence for one in views]


@given(st.data())
def test_two_nodes_news_is_shown_in_order(data: st.DataObject) -> None:
    """What the former node has sent and what the new one sends come in any mixture; all is shown once, in order."""
    count = data.draw(st.integers(1, 40))
    first = data.draw(st.integers(0, count))
    streams = [list(range(first)), list(range(first, count))]
    news, found = InOrder(), []
    while any(streams):
        stream = data.draw(st.sampled_from([one for one in streams if one]))
        number = stream.pop(0)
        # The answer to `Watch` is number 0: the former node has sent it before all else, or the new one has.
        found += shown(news.told(number, view(number)) if number else news.asked(0, view(0)))
        if number and data.draw(st.booleans()):
            found += shown(news.told(number, view(number)))  # nobody sends it twice: it would be shown once
    assert found == list(range(count))
    assert not news.lacking
    assert news.last == count - 1


def test_what_is_lost_with_a_node_is_waited_for_no_longer() -> None:
    """After a while what has come is shown; what comes later all the same is not."""
    news = InOrder()
    assert shown(news.asked(3, view(10))) == [10]
    assert shown(news.told(6, view(13)) + news.told(5, view(12))) == []
    assert news.lacking
    assert shown(news.overdue(2)) == []  # of a gap that is filled since
    assert shown(news.overdue(3)) == [12, 13]
    assert not news.lacking
    assert shown(news.told(4, view(11)) + news.told(7, view(14))) == [14]


def test_what_is_kept_back_is_bounded() -> None:
    """With too much of it what lacks is given up at once."""
    news = InOrder()
    news.asked(0, view(0))
    found = [one for number in range(2, MOST + 3) for one in shown(news.told(number, view(number)))]
    assert found == list(range(2, MOST + 3))


def test_a_table_is_asked_now_and_then() -> None:
    """Its answer is one of the news; one that was overtaken shows nothing; one from a new count begins anew."""
    news = InOrder()
    assert shown(news.told(1, view(1))) == []  # before the answer it is not known what was before it
    assert shown(news.asked(0, view(0))) == [0, 1]
    assert shown(news.asked(1, view(1))) == [1]
    assert shown(news.asked(3, view(3)) + news.told(2, view(2))) == [2, 3]
    assert shown(news.told(3, view(3)) + news.asked(2, view(2))) == []
    assert shown(news.asked(0, view(9)) + news.told(1, view(10))) == [9, 10]
