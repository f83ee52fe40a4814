"""Lines of the log about what strangers do."""

import logging


class OneLine(logging.Formatter):
    """An exception is told by its message alone, and a message has no line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = " ".join(record.getMessage().split())
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        return self.formatMessage(record)
