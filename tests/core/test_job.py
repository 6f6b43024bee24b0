"""A job carries events, errors and the wish to stop between two threads."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from trainer_core.events import Stepped
from trainer_core.job import Job


def steps(count, closed=None):
    try:
        for step in range(1, count + 1):
            yield Stepped(step, count, 1)
    finally:
        if closed is not None:
            closed.append(threading.current_thread().name)


def test_events_arrive_in_order():
    assert [event.step for event in Job(lambda: steps(5)).start()] == [1, 2, 3, 4, 5]


def test_the_stream_runs_outside_the_hosts_inference_mode():
    def stream():
        yield torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    with torch.inference_mode():
        assert list(Job(stream).start()) == [(False, True)]


def test_an_error_is_raised_where_the_events_are_read_after_those_before_it():
    def stream():
        yield 1
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for event in Job(stream).start():
            seen.append(event)
    assert seen == [1]


def test_cancel_closes_the_stream_on_its_own_thread_before_iteration_ends():
    closed: list[str] = []
    job = Job(lambda: steps(10**9, closed)).start()
    for event in job.events():
        if event.step == 3:
            job.cancel()
            break
    for _ in job.events():
        pass
    assert closed == ["lazylora"] and not job.is_alive


def test_a_paused_job_waits_and_can_be_cancelled():
    gate = threading.Event()

    def stream():
        gate.wait(5)
        yield from steps(10**9)

    job = Job(stream).start()
    job.pause()
    gate.set()
    first = next(job.events())
    time.sleep(0.05)
    assert first.step == 1 and job._events.empty()
    job.unpause()
    assert next(job.events()).step == 2
    job.pause()
    job.cancel()
    for _ in job.events():
        pass
    assert not job.is_alive


def test_poll_is_called_while_nothing_happens():
    polled = threading.Event()

    def stream():
        assert polled.wait(5)
        yield 1

    assert list(Job(stream).start().events(poll=polled.set, every=0.01)) == [1]
