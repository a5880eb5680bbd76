"""Reading ahead: the next batch is begun before it is asked for, and nothing that is given differs."""

import threading

import pytest

from feller.core.errors import InputError
from feller.data.batches import Ahead

ROWS = slice(0, 4)


def test_the_next_batch_is_read_before_it_is_asked_for():
    begun = {step: threading.Event() for step in range(8)}

    def read(step, rows):
        begun[step].set()
        return step, rows.stop

    feed = Ahead(read)
    assert feed(0, ROWS) == (0, 4)
    assert begun[1].wait(10)
    assert feed(3, ROWS) == (3, 4)  # every third step, as where examples serve several
    assert begun[6].wait(10)
    assert feed(1, slice(2, 3)) == (1, 3)


def test_an_error_comes_when_its_batch_is_asked_for():
    def read(step, rows):
        if step == 1:
            raise InputError("damaged")
        return step

    feed = Ahead(read)
    assert feed(0, ROWS) == 0
    with pytest.raises(InputError, match="damaged"):
        feed(1, ROWS)
    assert feed(2, ROWS) == 2
