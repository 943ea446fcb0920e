"""`duralog.ndjson` as the peer of the library's own: `import STORE FILE` and `export STORE FILE` as on its command line.

`judge FILE` says what it makes of single lines, each of which stands behind its length (4 bytes, little-endian): prints
`torn` or `bad` for one that says no event, else the fields of the event.
"""

import struct
import sys

from duralog import DuralogError, ndjson
from duralog._eventstore import check_event


def judge(line):
    try:
        event = ndjson.event_of_line(line)
    except (ValueError, RecursionError):
        return "torn" if ndjson._is_torn(line) else "bad"
    try:
        check_event(event)
    except DuralogError:
        return "bad"
    parts = (event.id.bytes, event.stream.encode(), event.type.encode(), event.data, event.metadata,
             event.content_type.encode(), *(tag.encode() for tag in event.tags))
    ids = [id and id.bytes.hex() for id in (event.correlation_id, event.causation_id)]
    return " ".join([*(part.hex() or "-" for part in parts), str(event.schema_version), str(event.occurred), *map(str, ids)])


def main():
    if sys.argv[1] != "judge":
        return ndjson.main()
    with open(sys.argv[2], "rb") as file:
        while True:
            head = file.read(4)
            if not head:
                return 0
            print(judge(file.read(*struct.unpack("<I", head))))


if __name__ == "__main__":
    sys.exit(main())
