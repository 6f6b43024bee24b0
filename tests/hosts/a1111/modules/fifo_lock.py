"""A lock that is taken in the order in which it was asked for."""

import collections
import threading


class FIFOLock:
    def __init__(self):
        self._lock, self._inner_lock = threading.Lock(), threading.Lock()
        self._pending_threads = collections.deque()

    def acquire(self, blocking=True):
        with self._inner_lock:
            if self._lock.acquire(False):
                return True
            if not blocking:
                return False
            my_turn = threading.Event()
            self._pending_threads.append(my_turn)
        my_turn.wait()
        return self._lock.acquire()

    def release(self):
        with self._inner_lock:
            if self._pending_threads:
                self._pending_threads.popleft().set()
            self._lock.release()

    __enter__ = acquire

    def __exit__(self, *_):
        self.release()
