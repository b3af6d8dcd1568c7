import signal
import threading

import pytest
from core_stack import Ears

from orchestrator.errors import ExitCode
from orchestrator.stop import Interrupted, Stop, poll


def test_nothing_was_asked():
    stop = Stop(Ears())
    stop.check()
    stop.wait(0)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)])
def test_the_first_signal_asks_and_is_told(number, code):
    ears = Ears()
    stop = Stop(ears)
    with stop.listening():
        signal.raise_signal(number)
        assert "safe point" in ears.heard[0].text
        with pytest.raises(Interrupted) as caught:
            stop.check()
    assert caught.value.exit_code == code


def test_the_second_leaves_at_once_whichever_it_is():
    stop = Stop(Ears())
    with stop.listening():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_the_handlers_of_before_are_back_afterwards():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stop(Ears()).listening():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_wait_ends_when_a_stop_is_asked_for():
    stop = Stop(Ears())
    waker = threading.Timer(0.05, stop._asked.set)
    waker.start()
    with pytest.raises(Interrupted):
        stop.wait(3600)
    waker.join()


def test_poll_returns_what_it_finds_even_something_false():
    answers = iter([None, None, 0])
    assert poll(lambda: next(answers), 60, Stop(Ears()), every_s=0) == 0


def test_poll_looks_once_more_at_its_end_and_then_gives_up():
    looks = []
    assert poll(lambda: looks.append(1), 0, Stop(Ears())) is None
    assert looks == [1]


def test_poll_is_interrupted():
    stop = Stop(Ears())
    stop._on(signal.SIGINT, None)
    with pytest.raises(Interrupted):
        poll(lambda: None, 3600, stop)
