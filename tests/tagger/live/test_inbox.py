"""Windows that wait for the model."""

import threading

import numpy as np

from tagger.live.inbox import Ended, Inbox, LiveWindow, Lost
from tagger.windows import Window

END = Ended("it ended", is_finished=True)


def window(number: int) -> LiveWindow:
    return LiveWindow(Window(number, float(number), number + 2.0), np.zeros(1), 0.0)


def taken(inbox: Inbox) -> int:
    item = inbox.take()
    assert isinstance(item, LiveWindow)
    return item.window.index


def test_a_model_that_keeps_up_gets_every_window() -> None:
    inbox = Inbox(dropping=True)
    for number in range(5):
        inbox.put_window(window(number))
        assert taken(inbox) == number
    assert inbox.dropped == 0


def test_a_model_that_needs_three_times_the_hop_gets_every_third_window() -> None:
    inbox = Inbox(dropping=True)
    found = []
    for number in range(12):
        inbox.put_window(window(number))
        if number % 3 == 0:
            found.append(taken(inbox))
    assert set(np.diff(found)) == {3}
    assert inbox.dropped == 12 - len(found) - 1  # The newest one waits.


def test_notes_come_before_a_window_and_the_end_comes_last() -> None:
    inbox = Inbox(dropping=True)
    inbox.put_window(window(7))
    inbox.end(END)
    inbox.put_note(Lost("its clock jumped"))
    assert inbox.take() == Lost("its clock jumped")
    assert taken(inbox) == 7
    assert inbox.take() == END


def test_notes_that_are_not_taken_do_not_pile_up() -> None:
    inbox = Inbox(dropping=True)
    for number in range(10_000):
        inbox.put_note(Lost(str(number)))
    inbox.end(END)
    count = 0
    while inbox.take() != END:
        count += 1
    assert count == 100


def test_a_source_that_can_wait_waits_for_the_model() -> None:
    inbox = Inbox(dropping=False)
    numbers = range(5)

    def put() -> None:
        for number in numbers:
            inbox.put_window(window(number))

    thread = threading.Thread(target=put)
    thread.start()
    assert [taken(inbox) for _ in numbers] == list(numbers)
    thread.join()
    assert inbox.dropped == 0


def test_closing_lets_a_source_go_that_waits() -> None:
    inbox = Inbox(dropping=False)
    inbox.put_window(window(0))
    thread = threading.Thread(target=inbox.put_window, args=(window(1),))
    thread.start()
    inbox.close()
    thread.join(30)
    assert not thread.is_alive()


def test_a_wait_for_what_does_not_come_ends() -> None:
    assert Inbox(dropping=True).take(timeout_s=0.01) is None
