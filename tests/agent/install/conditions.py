"""What installs wait for in these tests: a window, power, a link that costs nothing."""

from datetime import datetime
from zoneinfo import ZoneInfo

from protos.documents import Conditions, Window

BERLIN = ZoneInfo("Europe/Berlin")
# The world's clock starts on a Tuesday at 22:13:20 UTC, 23:13:20 in Berlin.
SATURDAY_NIGHT = Window(start_minute=22 * 60, minutes=4 * 60, days=(5,))
IN_A_WINDOW = Conditions(windows=(SATURDAY_NIGHT,))
OPENS = datetime(2023, 11, 18, 22, tzinfo=BERLIN).timestamp()
CHARGED, UNMETERED = Conditions(battery_percent=50), Conditions(unmetered=True)
