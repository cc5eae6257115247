"""Reads a whole ColumnStore deployment and says what does not hold.

Written against what a server of version 6.4 leaves on its disk, and sharing nothing with the program
that is tested or with the generator: its slots are unpacked by other libraries. Prints one JSON object;
exits 1 when there are problems.

    columnstore_reader.py ROOT
"""

import array
import json
import os
import re
import struct
import sys
import xml.etree.ElementTree

import cramjam
import crc32c
import lz4.block
import mmh3

BLOCK = 8192
CHUNK = 4 << 20
EXTENT_ROWS = 8 << 20
MAGIC = 0xFDC119A384D0778E
LEFTOVERS = (".rlc", ".orig", ".chk", ".hdr", ".tmp")

# Value that stands where there is no row, by width, for columns that are not of these types.
EMPTY = {1: 0x81, 2: 0x8001, 4: 0x80000001, 8: 0x8000000000000001}
CHAR, FLOAT, DATE, DOUBLE, DATETIME, VARCHAR = 2, 7, 8, 10, 11, 12
TIME, TEXT, TIMESTAMP = 24, 17, 34
UNSIGNED = {15: 1, 16: 2, 18: 4, 19: 4, 21: 8}


def empty_value(data_type, width):
    if data_type in (CHAR, DATE, DATETIME, VARCHAR, TEXT, TIME, TIMESTAMP):
        value = (1 << 8 * width) - 1
    elif data_type == FLOAT:
        value = 0xFFAAAAAB
    elif data_type == DOUBLE:
        value = 0xFFFAAAAAAAAAAAAB
    elif data_type in UNSIGNED:
        value = (1 << 8 * width) - 1
    else:
        value = EMPTY[width]
    return value.to_bytes(width, "little")


def murmur(payload):
    # The low 32 bits of the first of the two halves.
    return mmh3.hash64(payload, 0, True, False)[0] & 0xFFFFFFFF


class Reader:
    def __init__(self, root):
        self.root = root
        self.problems = []
        self.counts = dict(files=0, slots=0, snappy=0, lz4=0, stored=0, unpacked=0, stale=0,
                           catalog_files=0, pages=0, extents=0, tokens=0, tables=0,
                           rows=0)
        self.types = {}
        self.blocks_of = {}
        self.rows_of = {}

    def wrong(self, place, text):
        self.problems.append(f"{place}: {text}")

    def host(self, path):
        return os.path.join(self.root, path.lstrip("/"))

    def read(self, path):
        with open(path, "rb") as file:
            return file.read()

    def run(self):
        tree = xml.etree.ElementTree.parse(self.host("/etc/columnstore/Columnstore.xml")).getroot()
        system = tree.find("SystemConfig")
        self.roots = {int(element.tag[6:]): element.text for element in system
                      if re.fullmatch(r"DBRoot\d+", element.tag)}
        if int(system.find("DBRootCount").text) != len(self.roots):
            self.wrong("Columnstore.xml", "DBRootCount is not the number of DB Roots")
        self.dbrm = system.find("DBRMRoot").text
        self.extent_map()
        self.other_brm_files()
        self.segment_files()
        self.catalog()
        self.oid_bitmap()
        self.innodb()
        return dict(problems=self.problems, roots=sorted(self.roots), names=self.names,
                    **self.counts)

    # --- block resolution manager

    def extent_map(self):
        data = self.read(self.host(self.dbrm + "_em"))
        magic, count, free = struct.unpack_from("<iii", data)
        if magic != 0x76F78B20:
            self.wrong("extent map", f"magic {magic:#x}")
        if len(data) != 12 + 96 * count + 16 * free:
            self.wrong("extent map", f"{len(data)} bytes for {count} entries and {free} free ranges")
        self.entries = []
        used = []
        for number in range(count):
            at = 12 + 96 * number
            start, size, _, oid, offset, hwm, partition, segment, root, width, status = \
                struct.unpack_from("<qIIiIIIHHHh", data, at)
            valid = data[at + 52]
            low = int.from_bytes(data[at + 64:at + 80], "little", signed=True)
            high = int.from_bytes(data[at + 80:at + 96], "little", signed=True)
            self.entries.append(dict(start=start, size=size, oid=oid, offset=offset, hwm=hwm,
                                     partition=partition, segment=segment, root=root, width=width,
                                     valid=valid, low=low, high=high))
            used.append((start, size << 10))
            if status != 0 or valid > 2:
                self.wrong(f"extent {start}", f"status {status}, valid {valid}")
            if size != (width or 8):
                self.wrong(f"extent {start}", f"{size} units of a column {width} wide")
            if root not in self.roots:
                self.wrong(f"extent {start}", f"DB Root {root} is not configured")
        self.counts["extents"] = count
        for number in range(free):
            start, size, _ = struct.unpack_from("<qII", data, 12 + 96 * count + 16 * number)
            if size:
                used.append((start, size << 10))
        used.sort()
        end = 0
        for start, length in used:
            if start < end:
                self.wrong(f"LBID {start}", "belongs to two ranges")
            end = max(end, start + length)
        if end != 1 << 36:
            self.wrong("extent map", f"ranges end at LBID {end}")

    def other_brm_files(self):
        read = lambda suffix: self.read(self.host(self.dbrm + suffix))
        if read("_current") != b"BRM_saves\n":
            self.wrong("_current", repr(read("_current")))
        if read("_journal") != b"":
            self.wrong("_journal", "not empty")
        vss = read("_vss")
        magic, count = struct.unpack_from("<iI", vss)
        if magic != 0x7218DB12 or len(vss) != 8 + 24 * count:
            self.wrong("_vss", f"magic {magic:#x}, {count} entries in {len(vss)} bytes")
        locked = sum(vss[8 + 24 * number + 13] for number in range(count))
        if locked:
            self.wrong("_vss", f"{locked} locked entries")
        vbbm = read("_vbbm")
        magic, count, files = struct.unpack_from("<iII", vbbm)
        if magic != 0x1FB58C7A or len(vbbm) != 12 + 24 * (count + files):
            self.wrong("_vbbm", f"magic {magic:#x}, {count} entries in {len(vbbm)} bytes")
        if files != len(self.roots):
            self.wrong("_vbbm", f"{files} version buffers for {len(self.roots)} DB Roots")
        directory = os.path.dirname(self.host(self.dbrm))
        if len(self.read(os.path.join(directory, "SMTxnID"))) != 12:
            self.wrong("SMTxnID", "is not of 12 bytes")
        if self.read(os.path.join(directory, "tablelocks")) != bytes(4):
            self.wrong("tablelocks", "there are locks")

    def oid_bitmap(self):
        data = self.read(os.path.join(os.path.dirname(self.host(self.dbrm)), "oidbitmap"))
        bitmap = data[2048:2048 + (1 << 21)]
        tail = data[2048 + (1 << 21):]
        count = struct.unpack_from("<H", tail)[0]
        roots = list(struct.unpack_from(f"<{count}H", tail, 2))
        if len(tail) != 2 + 2 * count or roots != sorted(self.roots):
            self.wrong("oidbitmap", f"version buffers on {roots}")
        begin, end = struct.unpack_from("<ii", data)
        for oid in {entry["oid"] for entry in self.entries}:
            if not bitmap[oid >> 3] & 0x80 >> (oid & 7):
                self.wrong("oidbitmap", f"OID {oid} is not taken")
            if begin <= oid <= end:
                self.wrong("oidbitmap", f"OID {oid} is in the free range from {begin}")
        if bitmap[begin >> 3] & 0x80 >> (begin & 7) or any(bitmap[(begin >> 3) + 1:]):
            self.wrong("oidbitmap", f"OIDs from {begin} on are taken and free")

    # --- segment files

    def path_of(self, entry):
        oid = entry["oid"]
        parts = [oid >> 24, oid >> 16 & 255, oid >> 8 & 255, oid & 255, entry["partition"]]
        names = "".join(f"/{part:03}.dir" for part in parts)
        return self.host(self.roots[entry["root"]] + names + f"/FILE{entry['segment']:03}.cdf")

    def segment_files(self):
        by_path = {}
        for entry in self.entries:
            by_path.setdefault(self.path_of(entry), []).append(entry)
        found = set()
        for path in self.roots.values():
            for directory, _, names in os.walk(self.host(path)):
                for name in names:
                    whole = os.path.join(directory, name)
                    if name.endswith(LEFTOVERS) or name.startswith("DMLLog"):
                        self.wrong(whole, "a leftover of an interrupted write")
                    if re.fullmatch(r"FILE\d{3}\.cdf", name):
                        found.add(whole)
        for path in found - by_path.keys():
            self.wrong(path, "is not in the extent map")
        for path, entries in sorted(by_path.items()):
            if path not in found:
                self.wrong(path, "is in the extent map and not there")
                continue
            entries.sort(key=lambda entry: entry["offset"])
            self.segment_file(path, entries)

    def segment_file(self, path, entries):
        data = self.read(path)
        width = entries[0]["width"]
        if struct.unpack_from("<Q", data)[0] != MAGIC:
            return self.catalog_file(path, data, entries)
        if entries[0]["oid"] < 3000:
            self.wrong(path, "the catalog is never compressed")
        self.counts["files"] += 1
        _, version, compression, header, blocks, own_width = struct.unpack_from("<6Q", data)
        data_type, zero, count = struct.unpack_from("<iiQ", data, 48)
        lbids = list(struct.unpack_from(f"<{count}Q", data, 64))
        if version != 3 or zero or header % BLOCK or header < BLOCK:
            self.wrong(path, f"version {version}, header of {header} bytes")
        if any(data[64 + 8 * count:4096]):
            self.wrong(path, "bytes behind the LBIDs of the header")
        if own_width != width:
            self.wrong(path, f"width {own_width}, in the extent map {width}")
        if lbids != [entry["start"] for entry in entries]:
            self.wrong(path, f"LBIDs {lbids}")
        if compression not in ((1, 3) if width == 0 else (2, 3)):
            self.wrong(path, f"compression type {compression}")
        oid = entries[0]["oid"]
        self.types[oid] = (data_type, width)
        whole = sum(entry["size"] << 10 for entry in entries)
        first = 256 if width == 0 else 32 * width
        if blocks != whole and not (blocks == first and len(entries) == 1):
            self.wrong(path, f"{blocks} blocks, extents have {whole}")
        extent_blocks = 8192 if width == 0 else width << 10
        for number, entry in enumerate(entries):
            if entry["offset"] != number * extent_blocks:
                self.wrong(path, f"extent {number} begins at block {entry['offset']}")
            if entry["hwm"] and number + 1 < len(entries):
                self.wrong(path, f"extent {number} has a high-water mark and is not the last")
        pointers = list(struct.unpack_from(f"<{(header - 4096) // 8}Q", data, 4096))
        slots = pointers.index(0) if 0 in pointers else len(pointers)
        if any(pointers[slots:]):
            self.wrong(path, "pointers behind the first zero")
        pointers = pointers[:slots]
        if pointers[0] != header or pointers[-1] != len(data):
            self.wrong(path, f"slots from {pointers[0]} to {pointers[-1]} of {len(data)}")
        chunks = []
        for number, (start, end) in enumerate(zip(pointers, pointers[1:])):
            chunks.append(self.slot(f"{path} slot {number}", data[start:end], start, compression))
        unpacked = b"".join(chunks)
        sizes = [len(chunk) for chunk in chunks]
        abbreviated = blocks == first and width and sizes == [min(blocks * BLOCK, CHUNK)]
        if sizes != [CHUNK] * len(sizes) and not abbreviated:
            self.wrong(path, f"slots unpack to {sizes}")
        self.counts["stored"] += len(data)
        self.counts["unpacked"] += len(unpacked)
        hwm = entries[-1]["hwm"]
        self.high_water_mark(path, unpacked, hwm, data_type, width)
        if width == 0:
            for entry in entries:
                at = entry["offset"] * BLOCK
                self.dictionary(path, unpacked[at:at + extent_blocks * BLOCK], entry["start"])
        else:
            self.column(path, unpacked, entries, data_type, width)

    def slot(self, place, slot, start, compression):
        self.counts["slots"] += 1
        if start % BLOCK or len(slot) % BLOCK or not slot:
            self.wrong(place, f"at {start}, {len(slot)} bytes")
            return b""
        signature, checksum, length = struct.unpack_from("<BII", slot)
        payload = slot[9:9 + length]
        if 9 + length > len(slot):
            self.wrong(place, f"{length} bytes in a slot of {len(slot)}")
            return b""
        if murmur(payload) != checksum:
            self.wrong(place, f"checksum {checksum:#x}, found {murmur(payload):#x}")
            return b""
        self.counts["stale"] += any(slot[9 + length:])
        if signature == 0xFD and compression in (1, 2):
            self.counts["snappy"] += 1
            return bytes(cramjam.snappy.decompress_raw(payload))
        if signature == 0xFC and compression in (1, 3):
            self.counts["lz4"] += 1
            return lz4.block.decompress(payload, uncompressed_size=CHUNK)
        self.wrong(place, f"signature {signature:#x}, compression type {compression}")
        return b""

    def high_water_mark(self, path, unpacked, hwm, data_type, width):
        end = (hwm + 1) * BLOCK
        if end > len(unpacked):
            return self.wrong(path, f"high-water mark {hwm}, {len(unpacked) // BLOCK} blocks")
        empty = empty_block() if width == 0 else empty_value(data_type, width) * (BLOCK // width)
        rest = unpacked[end:]
        if rest != empty * (len(rest) // BLOCK):
            self.wrong(path, f"something behind the high-water mark {hwm}")

    def column(self, path, unpacked, entries, data_type, width):
        empty = int.from_bytes(empty_value(data_type, width), "little")
        values = array.array({1: "B", 2: "H", 4: "I", 8: "Q"}[width], unpacked)
        rows = len(values) - values.count(empty)
        self.rows_of[entries[0]["oid"]] = self.rows_of.get(entries[0]["oid"], 0) + rows
        distinct = set(values)
        distinct.discard(empty)
        if data_type == VARCHAR or data_type == CHAR and width == 8:
            self.blocks_of.setdefault(entries[0]["oid"], set()).update(distinct)
        # Bounds of numbers, where one extent stands alone in its file.
        entry = entries[0]
        if len(entries) == 1 and entry["valid"] == 2 and data_type in (1, 3, 4, 6, 9) and distinct:
            sign = 1 << 8 * width - 1
            null = sign
            signed = [(v ^ sign) - sign for v in distinct if v != null]
            low, high = ((v & (1 << 64) - 1) for v in (entry["low"], entry["high"]))
            low, high = ((v ^ 1 << 63) - (1 << 63) for v in (low, high))
            if low <= high and signed and not low <= min(signed) <= max(signed) <= high:
                self.wrong(path, f"values {min(signed)} to {max(signed)}, bounds {low} to {high}")

    def dictionary(self, path, unpacked, lbid):
        for number in range(len(unpacked) // BLOCK):
            block = unpacked[number * BLOCK:(number + 1) * BLOCK]
            free, following, end = struct.unpack_from("<HQH", block)
            if end != BLOCK:
                self.wrong(f"{path} block {number}", f"strings end at {end}")
                continue
            strings = 0
            at = 12
            last = end
            while (start := struct.unpack_from("<H", block, at)[0]) != 0xFFFF:
                if start > last or start < at:
                    self.wrong(f"{path} block {number}", f"string {strings} at {start}")
                    break
                last = start
                strings += 1
                at += 2
            if not following and free != last - at - 2:
                self.wrong(f"{path} block {number}", f"{free} bytes free, found {last - at - 2}")
            self.strings[lbid + number] = strings

    # --- the system catalog

    strings = {}

    def catalog_file(self, path, data, entries):
        self.counts["catalog_files"] += 1
        width = entries[0]["width"]
        oid = entries[0]["oid"]
        if oid >= 3000:
            self.wrong(path, "a column of a table that is not compressed")
        size = (2 << 20) if width == 0 else (256 << 10) * width
        if len(data) != size or len(entries) != 1:
            self.wrong(path, f"{len(data)} bytes, expected {size}")
        if (entries[0]["hwm"] + 1) * BLOCK > len(data):
            self.wrong(path, f"high-water mark {entries[0]['hwm']}")
        if width == 0:
            self.dictionary(path, data, entries[0]["start"])
        self.catalog_data = getattr(self, "catalog_data", {})
        self.catalog_data[oid] = data

    def catalog(self):
        if self.counts["catalog_files"] != 41:
            self.wrong("catalog", f"{self.counts['catalog_files']} files")
        ints = lambda oid: array.array("i", self.catalog_data[oid])
        empty, null = -(1 << 31) + 1, -(1 << 31)
        in_map = {entry["oid"] for entry in self.entries if entry["oid"] >= 3000}
        named = set()
        dictionaries = {}
        for oid, dictionary, data_type in zip(ints(1024), ints(1025), ints(1028)):
            if oid == empty:
                continue
            named.add(oid)
            if dictionary not in (empty, null, 0):
                named.add(dictionary)
                dictionaries[oid] = dictionary
            if self.types.get(oid, (data_type,))[0] != data_type:
                self.wrong(f"catalog, OID {oid}", f"type {data_type}, header {self.types[oid]}")
        if named != in_map:
            self.wrong("catalog", f"names {sorted(named ^ in_map)}, or the extent map does")
        for oid, dictionary in dictionaries.items():
            self.tokens(f"column {oid}", self.blocks_of.get(oid, set()), dictionary)
        for oid, dictionary in ((1001, 2001), (1002, 2004), (1021, 2061), (1022, 2064), (1023, 2067)):
            tokens = set(array.array("Q", self.catalog_data[oid])) - {(1 << 64) - 1}
            self.tokens(f"catalog column {oid}", tokens, dictionary)
        self.counts["tables"] = sum(oid != empty for oid in ints(1003))
        names = [array.array("Q", self.catalog_data[oid]) for oid in (1021, 1022)]
        tables = {}
        for schema, table, oid in zip(*names, ints(1024)):
            if oid != empty:
                tables.setdefault((schema, table), {})[oid] = self.rows_of.get(oid, 0)
        # A table's rows are those of each of its columns.
        for columns in tables.values():
            if len(columns) < 2:
                self.wrong("catalog", f"a table of one column: {columns}")
            self.counts["rows"] += max(columns.values())
            if len(set(columns.values())) != 1:
                self.wrong("catalog", f"columns of one table with rows {columns}")

        self.names = {}
        columns = [array.array("Q", self.catalog_data[oid]) for oid in (1021, 1022, 1023)]
        for schema, table, column, oid, dictionary in zip(*columns, ints(1024), ints(1025)):
            if oid != empty:
                name = [self.string(schema, 2061), self.string(table, 2064), self.string(column, 2067)]
                for number in {oid, dictionary} - {empty, null, 0}:
                    self.names[number] = ".".join(name)

    def string(self, token, dictionary):
        start = next(entry["start"] for entry in self.entries if entry["oid"] == dictionary)
        block = (token >> 10 & (1 << 36) - 1) - start
        data = self.catalog_data[dictionary][block * BLOCK:(block + 1) * BLOCK]
        end, begin = struct.unpack_from("<HH", data, 8 + 2 * (token & 1023))
        return data[begin:end].decode()

    def tokens(self, place, tokens, dictionary):
        ranges = [(entry["start"], entry["start"] + (entry["size"] << 10))
                  for entry in self.entries if entry["oid"] == dictionary]
        for token in tokens:
            if token >= (1 << 64) - 2:
                continue
            lbid, string = token >> 10 & (1 << 36) - 1, token & 1023
            self.counts["tokens"] += 1
            if not any(start <= lbid < end for start, end in ranges):
                return self.wrong(place, f"token {token:#x} is of no extent of {dictionary}")
            if not 1 <= string <= self.strings.get(lbid, 0):
                return self.wrong(place, f"token {token:#x} names no string")

    # --- InnoDB

    def innodb(self):
        for directory, _, names in os.walk(self.host("/var/lib/mysql")):
            for name in names:
                if name.endswith(".ibd") or name == "ibdata1":
                    self.tablespace(os.path.join(directory, name))

    def tablespace(self, path):
        page_bytes = 16 << 10
        data = self.read(path)
        flags = struct.unpack_from(">I", data, 54)[0]
        space = data[34:38]
        if flags & 0x1F != 0x15 or len(data) % page_bytes:
            return self.wrong(path, f"flags {flags:#x}, {len(data)} bytes")
        for number in range(len(data) // page_bytes):
            page = data[number * page_bytes:(number + 1) * page_bytes]
            if page.count(0) == page_bytes:
                continue
            self.counts["pages"] += 1
            checksum = struct.unpack_from(">I", page, page_bytes - 4)[0]
            if crc32c.crc32c(page[:-4]) != checksum:
                self.wrong(f"{path} page {number}", f"checksum {checksum:#x}")
            # The doublewrite buffer has copies of pages of any space.
            if path.endswith("ibdata1") and 64 <= number < 192:
                continue
            if struct.unpack_from(">I", page, 4)[0] != number or page[34:38] != space:
                self.wrong(f"{path} page {number}", "number or space")


def empty_block():
    return struct.pack("<HQHH", BLOCK - 14, 0, BLOCK, 0xFFFF) + bytes(BLOCK - 14)


if __name__ == "__main__":
    result = Reader(sys.argv[1]).run()
    json.dump(result, sys.stdout)
    print()
    sys.exit(1 if result["problems"] else 0)
