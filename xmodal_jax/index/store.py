"""Arrays by key on disk: every update is one transaction, one process writes while others read.

    DIR/current            name of the generation that counts; replaced as a whole
    DIR/N/head.json        what all rows have in common (of which weights they are), and the fields {name: [type, shape]}
    DIR/N/NAME.npy         a field's rows [n, ...], mapped into memory
    DIR/N/keys.bin, ends.npy, stamps.npy    the rows' keys, one behind the other, where each ends, and stamps int64 [n, 2]
    DIR/N/journal          what changed since: transactions of records, each record with its length and checksum
    DIR/lock               held by the one that writes, while it lives

Killed at any moment, what is open next is the state before a transaction or behind it: records count once the transaction's
last one is there, and a long journal is folded into a new generation that takes effect when `current` names it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import struct
import zlib

import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.files import replace_text, replacing

PUT, DROP, COMMIT = b"PDC"
FRAME = struct.Struct("<II")  # of a record: length, CRC-32
PREFIX = struct.Struct("<BqIqq")  # of its payload: what it does, the row that dies of it or -1, length of the key, stamp
JOURNAL = 10_000  # changes that a journal may hold, or a tenth of the rows where that is more


class Store:
    """What an index holds, as it was when it was opened or last refreshed.

    Rows are numbered: those of the generation from 0, those of its journal behind them; a row that was changed or removed is
    dead, and its number is not used again before the next generation. Raises UserError where there is no index.
    """

    def __init__(self, folder):
        self.folder, self.generation = os.fspath(folder), None
        if self._current() is None:
            raise UserError(f"{folder}: there is no index here.")
        self.refresh()

    def refresh(self):
        """See what was committed since; returns whether anything was."""
        for _ in range(100):  # a generation may go between reading its name and opening its files
            name = self._current()
            try:
                return self._open(name) if name != self.generation else self._replay()
            except FileNotFoundError:
                if name == self._current():
                    raise UserError(f"{self.folder}: files of generation {name} are missing: index the photos anew.") from None
        raise UserError(f"{self.folder}: it changes faster than it can be read.")

    def _current(self):
        try:
            with open(os.path.join(self.folder, "current"), encoding="utf-8") as file:
                return file.read().strip()
        except FileNotFoundError:
            return None

    def _open(self, name):
        place = os.path.join(self.folder, name)
        with open(os.path.join(place, "head.json"), encoding="utf-8") as file:
            about = json.load(file)
        fields = {field: (np.dtype(kind), tuple(shape)) for field, (kind, shape) in about["fields"].items()}
        base = {field: mapped(place, field) for field in [*fields, "ends", "stamps"]}
        with open(os.path.join(place, "keys.bin"), "rb") as file:
            keys = file.read()
        self.head, self.fields, self.base, self.keys, self.count = about["head"], fields, base, keys, len(base["stamps"])
        self.dead = np.zeros(self.count, bool)  # grows with the journal
        self.added = []  # (key, stamp, {field: array}) of each journalled row
        self.place, self.generation, self.read = place, name, 0
        self._rows, self._stacked = None, {}
        self._replay()
        return True

    def _replay(self):
        """Apply the transactions of the journal that were completed since; returns whether there were any."""
        with open(os.path.join(self.place, "journal"), "rb") as file:
            file.seek(self.read)
            waiting, changed = [], False
            for payload, end in records(file):
                change = unpack(payload)
                if change[0] != COMMIT:
                    waiting.append(change)
                    continue
                for earlier in waiting:
                    self._apply(*earlier)
                waiting, changed, self.read = [], True, end
        if changed:
            self._rows, self._stacked = None, {}
        return changed

    def _apply(self, kind, row, key, stamp, body):
        if row >= 0:
            self.dead[row] = True
        if kind == PUT:
            self.added.append((key, stamp, arrays_of(self.fields, body)))
            if len(self.dead) < self.count + len(self.added):
                self.dead = np.concatenate([self.dead, np.zeros(max(1000, len(self.added)), bool)])

    @property
    def rows(self):
        """{key: row} of all that are alive; made when first asked for."""
        if self._rows is None:
            self._rows = {self.key(row): int(row) for row in np.flatnonzero(self.alive)}
        return self._rows

    def __len__(self):
        return int(self.count + len(self.added) - self.dead.sum())

    @property
    def alive(self):
        """bool [rows]: which rows count."""
        return ~self.dead[: self.count + len(self.added)]

    def key(self, row):
        """The key of a row, a string; of a path that is no UTF-8 with escapes, as `os.fsdecode` makes them."""
        if row >= self.count:
            return self.added[row - self.count][0]
        ends = self.base["ends"]
        return os.fsdecode(self.keys[ends[row - 1] if row else 0 : ends[row]])

    def stamp(self, row):
        """The two numbers that were put beside a row's arrays."""
        if row >= self.count:
            return self.added[row - self.count][1]
        return tuple(int(n) for n in self.base["stamps"][row])

    def journalled(self, field):
        """A field of the journal's rows, [rows, ...]."""
        if field not in self._stacked:
            kind, shape = self.fields[field]
            rows = [arrays[field] for _, _, arrays in self.added]
            self._stacked[field] = np.stack(rows) if rows else np.zeros((0, *shape), kind)
        return self._stacked[field]

    def get(self, field, rows):
        """A field of some rows, [rows, ...]."""
        rows = np.asarray(rows, np.int64)
        kind, shape = self.fields[field]
        out, old = np.empty((len(rows), *shape), kind), rows < self.count
        out[old] = self.base[field][rows[old]]
        out[~old] = self.journalled(field)[rows[~old] - self.count]
        return out


def mapped(place, name):
    """An array file mapped into memory (an empty one is read: nothing can be mapped)."""
    path = os.path.join(place, f"{name}.npy")
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:
        return np.load(path)


def records(file):
    """(payload, where it ends) of whole records from here; ends at the first that is cut off or damaged."""
    start = file.tell()
    while len(frame := file.read(FRAME.size)) == FRAME.size:
        length, check = FRAME.unpack(frame)
        payload = file.read(length)
        if len(payload) < length or zlib.crc32(payload) != check:
            return
        start += FRAME.size + length
        yield payload, start


def framed(payload):
    """A payload as it stands in a file of records."""
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def pack(kind, row=-1, key="", stamp=(0, 0), body=b""):
    """The record of a change."""
    name = os.fsencode(key)
    return framed(PREFIX.pack(kind, row, len(name), *stamp) + name + body)


def unpack(payload):
    """-> (what it does, the row that dies of it or -1, key, stamp, bytes of the arrays)."""
    kind, row, length, *stamp = PREFIX.unpack_from(payload)
    end = PREFIX.size + length
    return kind, row, os.fsdecode(payload[PREFIX.size : end]), tuple(stamp), payload[end:]


def bytes_of(fields, arrays):
    """{field: array} of one row as bytes, in the order of the fields. Raises ValueError for another shape."""
    found = [np.ascontiguousarray(arrays[field], kind) for field, (kind, _) in fields.items()]
    for (field, (_, shape)), array in zip(fields.items(), found, strict=True):
        if array.shape != shape:
            raise ValueError(f"{field}: {array.shape} instead of {shape}")
    return b"".join(array.tobytes() for array in found)


def arrays_of(fields, body):
    """The inverse of `bytes_of`."""
    found, start = {}, 0
    for field, (kind, shape) in fields.items():
        end = start + kind.itemsize * int(np.prod(shape))
        found[field], start = np.frombuffer(body[start:end], kind).reshape(shape), end
    return found


def told(fields):
    """Fields as JSON holds them."""
    return {name: [kind.str, list(shape)] for name, (kind, shape) in fields.items()}


@contextlib.contextmanager
def writing(folder, head, fields):
    """The one `Writer` of an index, made where there is none. Raises UserError while another process writes.

    head: what all rows have in common; rows of another head do not count. fields: {name: (type, shape)}.
    """
    folder = os.fspath(folder)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the system when the process ends, however it does
        except OSError:
            raise UserError(f"{folder}: another process is updating this index: wait until it is done.") from None
        writer = Writer(folder, head, fields)
        try:
            yield writer
        finally:
            writer.staging.close()


class Writer:
    """Updates of an index; see `writing`.

    Attributes:
      store: what there is, or None where nothing of this head is.
      staged: {key: (stamp, arrays)} that `stage` was given, also by a process that was killed before it committed.
    """

    def __init__(self, folder, head, fields):
        self.folder, self.head = folder, json.loads(json.dumps(head))
        self.fields = {name: (np.dtype(kind), tuple(shape)) for name, (kind, shape) in fields.items()}
        try:
            store = Store(folder)
        except UserError:
            store = None
        self.store = store if store and (store.head, store.fields) == (self.head, self.fields) else None
        self._clean(store.generation if store else None)
        self.staged = self._restage()

    def _clean(self, current):
        """Remove what a killed process left: generations that are not the current one, and half a transaction."""
        for name in os.listdir(self.folder):
            if name.startswith("generation-") and name != current:
                shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)
        if self.store is not None:
            os.truncate(os.path.join(self.store.place, "journal"), self.store.read)

    def _restage(self):
        """Open what a killed process staged for rows of the same head, or begin anew."""
        path = os.path.join(self.folder, "staged")
        mark, staged, end = framed(json.dumps([self.head, told(self.fields)]).encode()), {}, 0
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            if file.read(len(mark)) == mark:
                end = len(mark)
                for payload, place in records(file):
                    _, _, key, stamp, body = unpack(payload)
                    staged[key], end = (stamp, arrays_of(self.fields, body)), place
        self.staging = open(path, "r+b" if end else "wb")  # noqa: SIM115 closed by `writing`
        self.staging.truncate(end)
        self.staging.seek(end)
        if not end:
            self.staging.write(mark)
        return staged

    def stage(self, key, stamp, arrays):
        """Keep what was computed for a key until it is committed, over a kill too once it is flushed."""
        self.staged[key] = tuple(stamp), arrays
        self.staging.write(pack(PUT, -1, key, stamp, bytes_of(self.fields, arrays)))

    def flush(self):
        """Hand what was staged to the system."""
        self.staging.flush()

    def commit(self, puts=(), drops=()):
        """Make one transaction of keys that were staged and of keys to be removed; then nothing is staged any more."""
        puts, drops = list(puts), list(drops)
        store = self.store
        if store is None or len(store.added) + store.dead.sum() + len(puts) + len(drops) > max(JOURNAL, len(store) // 10):
            self._renew(puts, drops)
        elif puts or drops:
            with open(os.path.join(store.place, "journal"), "ab") as file:
                for key in drops:
                    file.write(pack(DROP, store.rows[key], key))
                for key in puts:
                    stamp, arrays = self.staged[key]
                    file.write(pack(PUT, store.rows.get(key, -1), key, stamp, bytes_of(self.fields, arrays)))
                file.write(pack(COMMIT))
                file.flush()
                os.fsync(file.fileno())
            store.refresh()
        self.staging.close()
        os.remove(os.path.join(self.folder, "staged"))
        self.staged = self._restage()

    def _renew(self, puts, drops):
        """A new generation of all that stays and of what was put."""
        old, gone = self.store, {*drops, *puts}
        stay = [] if old is None else [int(row) for row in np.flatnonzero(old.alive) if old.key(row) not in gone]
        keys = [old.key(row) for row in stay] + puts
        stamps = [old.stamp(row) for row in stay] + [self.staged[key][0] for key in puts]

        def rows(field, first, last):
            """Rows of a field in the new order."""
            new = puts[max(0, first - len(stay)) : max(0, last - len(stay))]
            parts = [old.get(field, stay[first:last])] if first < len(stay) else []
            return np.concatenate([*parts, *(np.asarray(self.staged[key][1][field])[None] for key in new)])

        write_generation(self.folder, self.head, self.fields, keys, stamps, rows)
        if old:
            shutil.rmtree(old.place, ignore_errors=True)  # who reads it has its files open
        self.store = Store(self.folder)


def write_generation(folder, head, fields, keys, stamps, rows, part=10_000):
    """Write all rows of an index, and make that what counts.

    keys: [n] strings; stamps: [n, 2]; rows: (field, first, last) -> those rows of it.
    """
    number = 1 + max((int(name.split("-")[1]) for name in os.listdir(folder) if name.startswith("generation-")), default=0)
    name = f"generation-{number}"
    place = os.path.join(folder, name)
    os.makedirs(place)
    coded = [os.fsencode(key) for key in keys]
    arrays = {
        "ends": np.cumsum([len(code) for code in coded], dtype=np.int64),
        "stamps": np.array(stamps, np.int64).reshape(-1, 2),
    }
    for field, array in arrays.items():
        with replacing(os.path.join(place, f"{field}.npy"), "wb") as file:
            np.save(file, array)
    with replacing(os.path.join(place, "keys.bin"), "wb") as file:
        file.write(b"".join(coded))
    for field, (kind, shape) in fields.items():
        with replacing(os.path.join(place, f"{field}.npy"), "wb") as file:
            about = {"descr": kind.str, "fortran_order": False, "shape": (len(keys), *shape)}
            np.lib.format.write_array_header_1_0(file, about)
            for first in range(0, len(keys), part):
                block = rows(field, first, min(first + part, len(keys)))
                file.write(np.ascontiguousarray(block, kind).tobytes())
    replace_text(os.path.join(place, "head.json"), json.dumps({"head": head, "fields": told(fields)}))
    with replacing(os.path.join(place, "journal"), "wb"):
        pass
    replace_text(os.path.join(folder, "current"), name)
