from modules.fifo_lock import FIFOLock

queue_lock = FIFOLock()


def wrap_queued_call(function):
    def queued(*args, **kwargs):
        with queue_lock:
            return function(*args, **kwargs)

    return queued
