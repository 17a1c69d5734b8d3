"""Who may use a connection: so many threads at a time, whatever interrupts them."""

import threading

from aumai_transactions.stores.postgres.pool import _Seats


class Guest:
    """Take a seat in a thread, and stay until it is told to go."""

    def __init__(self, seats, seconds=0.0):
        self.is_in = None
        self._asked, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._visit, args=(seats, seconds))
        self._thread.start()

    def _visit(self, seats, seconds):
        self.is_in = seats.take(seconds)
        self._asked.set()
        self._go.wait()
        if self.is_in:
            seats.leave()

    def answer(self):
        self._asked.wait()
        return self.is_in

    def go(self):
        self._go.set()
        self._thread.join()


def test_so_many_threads_are_let_in_and_others_when_one_leaves():
    seats = _Seats(2)
    first, second, third = Guest(seats), Guest(seats), Guest(seats)
    answers = [guest.answer() for guest in (first, second, third)]
    assert sorted(answers) == [False, True, True]
    assert not seats.take(0)
    waiting = Guest(seats, 60)
    next(guest for guest in (first, second) if guest.answer()).go()
    assert waiting.answer()
    for guest in (first, second, third, waiting):
        guest.go()
    assert seats._taken == set()


def test_who_was_interrupted_before_it_left_takes_no_second_seat():
    seats = _Seats(2)
    for _ in range(5):
        assert seats.take(0)  # And an interrupt keeps it from leaving.
    guest = Guest(seats)
    assert guest.answer()
    seats.leave()
    other = Guest(seats)
    assert other.answer()
    guest.go()
    other.go()
    assert seats._taken == set()


def test_a_crowd_goes_through():
    seats, inside, most = _Seats(3), [], []
    guard = threading.Lock()

    def use():
        for _ in range(50):
            assert seats.take(60)
            with guard:
                inside.append(1)
                most.append(len(inside))
            with guard:
                inside.pop()
            seats.leave()

    threads = [threading.Thread(target=use) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 3
    assert len(most) == 600
