"""How often each device may ask: a token bucket each, as long as it is not full."""

import math
from collections import OrderedDict

from controller.transport.token_bucket import Bucket, Rate, full, level, take


class Pace:
    """Of one kind of calls. Whoever has rested long enough costs nothing. One thread uses it."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()  # who asked last is last

    def __len__(self) -> int:
        """Devices whose bucket is not known to be full."""
        return len(self._buckets)

    def wait_ms(self, device: str, now: float) -> int:
        """0, and the call is counted; or after how long the device may ask again.

        ``now`` is in seconds of any clock that does not go backwards.
        """
        bucket = self._buckets.pop(device, None) or full(self._rate, now)
        has = level(bucket, self._rate, now)
        self._buckets[device] = take(bucket, self._rate, now) if has >= 1.0 else bucket
        self._forget(now)
        if has >= 1.0:
            return 0
        return math.floor(1000 * (1.0 - has) / self._rate.per_second) + 1  # and not just before

    def _forget(self, now: float) -> None:
        while self._buckets:
            device, bucket = next(iter(self._buckets.items()))
            if level(bucket, self._rate, now) < self._rate.burst:
                return
            del self._buckets[device]
