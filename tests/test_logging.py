"""Silence within fits holds for one thread and leaves the user's settings alone."""

import logging
import threading

from flda._logging import get_logger, quiet

logger = get_logger("flda.tests")


def test_quiet_lets_errors_through(caplog):
    with caplog.at_level("INFO", logger="flda"):
        with quiet():
            logger.warning("hidden")
            logger.error("shown")
        logger.info("after")
    assert [r.getMessage() for r in caplog.records] == ["shown", "after"]


def test_quiet_is_of_its_own_thread(caplog):
    inside, done = threading.Event(), threading.Event()

    def silent():
        with quiet():
            inside.set()
            done.wait(60)
            logger.warning("hidden")

    level = logging.getLogger("flda").level
    thread = threading.Thread(target=silent)
    with caplog.at_level("WARNING", logger="flda"):
        thread.start()
        assert inside.wait(60)
        logger.warning("shown")  # while the other thread is silent
        done.set()
        thread.join()
    assert [r.getMessage() for r in caplog.records] == ["shown"]
    assert logging.getLogger("flda").level == level
