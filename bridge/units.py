"""Values as they are written in the configuration: durations, sizes, percentages, addresses, regular expressions.

Each `parse` raises ValueError, which says what was expected.
"""

import math
import re

from bridge.plan import Keep

_LAST_PORT = 65535
_LONGEST_PATTERN = 200
_MOST_REPETITIONS = 2
_MOST_CHOICES = 8
_SIZES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Seconds(float):
    """A duration. In YAML a number with a unit: `30s`, `5m`, `1h`, `7d`."""

    @classmethod
    def parse(cls, text: object) -> "Seconds":
        """Read `5m` and the like; raise ValueError for anything else."""
        match = re.fullmatch(r"(\d+)\s*([smhd])", str(text))
        if match is None:
            msg = f"Expected a duration such as 30s, 5m, 1h or 7d, got {text!r}"
            raise ValueError(msg)
        return cls(int(match[1]) * _UNITS[match[2]])

    def __str__(self) -> str:
        for unit, factor in reversed(_UNITS.items()):
            if self >= factor and self % factor == 0:
                return f"{int(self // factor)}{unit}"
        return f"{float(self):g}s"


class Bytes(int):
    """A size. In YAML a number with a unit: `500MB`, `20GB`, `1TB`."""

    @classmethod
    def parse(cls, text: object) -> "Bytes":
        """Read `20GB` and the like; raise ValueError for anything else."""
        match = re.fullmatch(r"(\d{1,9})\s*([MGT]B)", str(text), re.ASCII)
        if match is None:
            msg = f"Expected a size such as 500MB, 20GB or 1TB, got {text!r}"
            raise ValueError(msg)
        return cls(int(match[1]) * _SIZES[match[2]])

    def __str__(self) -> str:
        unit, factor = max((unit for unit in _SIZES.items() if self % unit[1] == 0), key=lambda unit: unit[1])
        return f"{self // factor}{unit}"


class Percent(float):
    """A fraction. In YAML a percentage: `50%`."""

    @classmethod
    def parse(cls, text: object) -> "Percent":
        """Read `50%` and the like; raise ValueError for anything else."""
        match = re.fullmatch(r"(\d{1,3})\s*%", str(text))
        if match is None or int(match[1]) > 100:
            msg = f"Expected a percentage such as 50%, got {text!r}"
            raise ValueError(msg)
        return cls(int(match[1]) / 100)

    def __str__(self) -> str:
        return f"{self:.0%}"


class Pattern(str):
    """A regular expression that takes a bounded time, whatever text it is held against."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> "Pattern":
        """Read `^name/2[.]` and the like; raise ValueError for what is none, too long, or could take for ever.

        The time grows exponentially with repeated groups and with choices, and with the length of the text to the
        power of the repetitions. So there is none of the first, and few of the others.
        """
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_PATTERN:
            msg = f"Expected a regular expression of 1 to {_LONGEST_PATTERN} characters, got {str(text)[:80]!r}"
            raise ValueError(msg)
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            msg = f"Expected a regular expression, got {text!r}: {error}"
            raise ValueError(msg) from error
        bare = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", text, flags=re.DOTALL)
        repetitions, choices = (len(re.findall(kind, bare)) for kind in (r"[*+{]", r"\||(?<!\()\?"))
        if re.search(r"\)[*+{]", bare) or repetitions > _MOST_REPETITIONS or choices > _MOST_CHOICES:
            msg = (
                f"Expected at most {_MOST_REPETITIONS} of *, + and {{}}, none of them behind a group, and at most "
                f"{_MOST_CHOICES} of | and ?, got {text!r}; put them into several expressions"
            )
            raise ValueError(msg)
        return cls(text)


def parse_keep(value: object) -> Keep:
    """Read `true` (for good), `false` (not at all), or a duration; raise ValueError for anything else."""
    if isinstance(value, bool):
        return Keep(math.inf if value else 0)
    try:
        return Keep(Seconds.parse(value))
    except ValueError:
        msg = f"Expected true, false or a duration such as 7d, got {value!r}"
        raise ValueError(msg) from None


class Address(str):
    """A TCP address, `HOST:PORT`; an IPv6 host stands in brackets, port 0 takes a free one."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> "Address":
        """Read `127.0.0.1:5000` and the like; raise ValueError for anything else."""
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/\s]+):(\d{1,5})", str(text), re.ASCII)
        if match is None or int(match[2]) > _LAST_PORT:
            msg = f"Expected HOST:PORT, got {text!r}"
            raise ValueError(msg)
        return cls(text)

    @property
    def host(self) -> str:
        """Return the host, without brackets."""
        return self.rpartition(":")[0].strip("[]")

    def of(self, host: str) -> "Address":
        """Return the address of another host, which has no brackets, with this port."""
        return Address(f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}")

    @property
    def port(self) -> int:
        """Return the port."""
        return int(self.rpartition(":")[2])
