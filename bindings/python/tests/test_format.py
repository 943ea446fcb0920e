"""The reader of `duralog/format.py` against FORMAT.md: what each section says, on logs that
`log_builder.py` encodes independently.

The names of the tests are the specification; the section or the row of section 13 stands first.
Three kinds: single cases with the exact place and verdict; the table of section 13 over every
combination of its facts; and damage everywhere (each bit of a small log flipped, each length cut),
where a reader may deliver less and say so, but never anything else and never by another exception.
"""

import contextlib
import importlib.util
import io
import itertools
import json
import os
import struct
import sys
import tempfile
import unittest

import log_builder as lb
from log_builder import ABORT, BEGIN, COMMIT, SOLO, Log, put

HERE = os.path.dirname(os.path.abspath(__file__))
_spec = importlib.util.spec_from_file_location(
    "duralog_format_alone", os.path.join(HERE, "..", "src", "duralog", "format.py"))
fmt = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = fmt  # dataclasses look their module up
_spec.loader.exec_module(fmt)  # by path: it must not need the package or the native library


class Case(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "log")

    def write(self, log):
        return log.write(self.path)

    def read(self, log=None):
        """What replay delivers, and the Corrupt it ends with or None."""
        if log is not None:
            self.write(log)
        found = []
        try:
            for r in fmt.open_log(self.path).records():
                found.append((r.seq, r.op, r.key, r.value))
        except fmt.Corrupt as error:
            return found, error
        return found, None

    def check(self, log, row, records=None, **place):
        """The verdict row, its place, and the records delivered; describe() must agree."""
        found, error = self.read(log)
        verdict = fmt.open_log(self.path).verdict()
        self.assertEqual(verdict.row, row, verdict)
        self.assertEqual(verdict.verdict, {"Z": "CLEAN_END", "T": "TORN", "R": "IO_ERROR"}.get(row, "CORRUPT"))
        self.assertEqual(found, log.expected if records is None else records)
        for name, value in place.items():
            self.assertEqual(getattr(verdict, name), value, (name, verdict))
        if verdict.verdict == "CORRUPT":
            self.assertEqual((error.row, error.segment, error.offset, error.lsn),
                             (row, verdict.segment, verdict.offset, verdict.lsn))
            for part in (f"{error.segment:020d}.wal", f"offset {error.offset}", "expected ", "found "):
                self.assertIn(part, str(error))
        else:
            self.assertIsNone(error)
        result = fmt.describe(self.path)
        json.dumps(result)
        self.assertEqual({k: v for k, v in result.items() if k not in ("record_count", "digest")},
                         {k: v for k, v in vars(verdict).items() if k != "reason"})
        self.assertEqual(result["record_count"], len(found))
        self.assertEqual(result["digest"], lb.digest(found))
        return verdict


def two_batches():
    """One segment: a batch of two records, a solo append; nothing promised beyond the header."""
    log = Log()
    one = log.segment()
    one.batch([put(b"a", b"1"), put(b"b", b"22")])
    one.solo(put(b"c", b"333"))
    return log


def two_segments(**second):
    log = two_batches()
    log.last.seal()
    log.segment(**second).batch([put(b"d", b"4")])
    return log


class Conventions(Case):
    def test_section_1_crc_check_value(self):
        self.assertEqual(fmt.crc32(b"123456789"), 0xCBF43926)

    def test_structure_sizes(self):
        self.assertEqual(fmt.SEGMENT_HEADER.size, 128)
        self.assertEqual(fmt.FRAME_HEADER.size, 64)
        self.assertEqual(fmt.CONTROL_SLOT.size, 128)
        self.assertEqual(fmt.TAIL_HEAD.size, 64)
        self.assertEqual(fmt.RECORD_HEADER.size, 12)

    def test_reader_does_not_need_the_package(self):
        with open(fmt.__file__, encoding="utf-8") as file:
            source = file.read()
        self.assertNotIn("import duralog", source)
        self.assertNotIn("from .", source)
        self.assertNotIn("ctypes", source)


class Directory(Case):
    def test_3_empty_directory_is_not_a_log(self):
        os.makedirs(self.path)
        self.assertEqual(fmt.describe(self.path), {"verdict": "NOT_A_LOG"})
        self.assertRaises(fmt.NotALog, fmt.open_log, self.path)

    def test_missing_directory_is_not_a_log(self):
        self.assertEqual(fmt.describe(self.path), {"verdict": "NOT_A_LOG"})

    def test_17_directory_with_lock_only_is_not_a_log(self):
        os.makedirs(os.path.join(self.path, "ready"))
        open(os.path.join(self.path, "LOCK"), "w").close()
        self.assertEqual(fmt.describe(self.path), {"verdict": "NOT_A_LOG"})

    def test_3_other_names_are_ignored(self):
        log = two_batches()
        self.write(log)
        for name in ("2.wal", "0000000000000000000a.wal", f"{0:020d}.wal", f"{2:020d}.wal.tmp", f"{2:021d}.wal",
                     "9" * 20 + ".wal", f"{fmt.U64_MAX}.wal", "\u0661" * 20 + ".wal"):
            with open(os.path.join(self.path, name), "w") as file:
                file.write("x")
        os.makedirs(os.path.join(self.path, "ready"))
        self.check(log, "Z")

    def test_3_segments_below_first_segment_are_not_read(self):
        log = two_segments()
        log.names[1] = b"half deleted"
        log.control(first_segment=2, truncated_seq=4)
        self.check(log, "Z", records=[(5, 1, b"d", b"4")], first_segment=2, truncated_seq=4)

    def test_3_symlink_in_place_of_segment_is_an_error_not_an_absence(self):
        log = two_segments()
        log.names[2] = "elsewhere"
        with open(os.path.join(os.path.dirname(self.path), "x"), "wb") as file:
            file.write(log.last.bytes())
        self.write(log)
        os.remove(os.path.join(self.path, f"{2:020d}.wal"))
        os.symlink(os.path.join("..", "x"), os.path.join(self.path, f"{2:020d}.wal"))
        result = fmt.describe(self.path)
        self.assertEqual((result["verdict"], result["row"], result["segment"]), ("IO_ERROR", "R", 2))
        self.assertEqual(result["record_count"], 3)
        with self.assertRaises(OSError):
            list(fmt.open_log(self.path).records())

    def test_3_directory_or_fifo_in_place_of_segment_is_an_error(self):
        for make in (os.mkdir, os.mkfifo):
            with self.subTest(make=make.__name__):
                log = two_segments()
                self.write(log)
                name = os.path.join(self.path, f"{2:020d}.wal")
                os.remove(name)
                make(name)
                result = fmt.describe(self.path)
                self.assertEqual((result["verdict"], result["segment"]), ("IO_ERROR", 2))
                os.rmdir(name) if make is os.mkdir else os.remove(name)

    def test_3_control_that_is_no_file_is_an_error(self):
        log = two_batches()
        self.write(log)
        target = os.path.join(self.path, "control")
        os.remove(target)
        os.symlink("nowhere", target)
        result = fmt.describe(self.path)
        self.assertEqual((result["verdict"], result["row"]), ("IO_ERROR", "R"))
        with self.assertRaises(OSError):
            fmt.open_log(self.path)

    def test_3_tail_that_is_no_file_is_ignored(self):
        log = two_batches()
        self.write(log)
        with open(os.path.join(os.path.dirname(self.path), "page"), "wb") as file:
            file.write(lb.tail_page((log.last.lsn + 8,)))
        tail = os.path.join(self.path, "tail")
        os.symlink(os.path.join("..", "page"), tail)
        self.check(log, "Z", evidence_lsn=4096)
        os.remove(tail)
        os.mkdir(tail)
        self.check(log, "Z", evidence_lsn=4096)

    def test_only_segment_not_ours_is_not_a_log(self):
        for data in (b"", b"text", b"\0" * 5000):
            log = Log()
            log.no_control()
            log.names[1] = data
            self.write(log)
            self.assertEqual(fmt.describe(self.path), {"verdict": "NOT_A_LOG"})

    def test_4_segment_not_ours_beside_valid_control_is_corruption(self):
        log = two_batches()
        log.names[1] = b"\0" * 5000
        self.check(log, "M", records=[], segment=1, offset=0)

    def test_4_segment_not_ours_beside_others_is_corruption(self):
        log = two_segments()
        log.no_control()
        log.names[1] = b"text"
        self.check(log, "M", records=[], segment=1, control="lost")


class Header(Case):
    def refuse(self, **overrides):
        """A segment whose header has these values, checksum right, is row M and delivers nothing."""
        log = Log()
        log.segment(**overrides).solo(put(b"k"))
        return self.check(log, "M", records=[], segment=1, offset=0)

    def test_4_1_wrong_magic(self):
        self.refuse(magic=b"\x8fDUR\n\n\x1a\n")

    def test_4_1_shorter_than_128_bytes(self):
        log = two_batches()
        log.names[1] = log.last.bytes()[:127]
        self.check(log, "M", records=[], segment=1)

    def test_4_2_wrong_crc(self):
        self.refuse(crc=1)

    def test_4_2_damage_comes_before_newer(self):
        self.refuse(format_major=2, crc=1)

    def test_4_3_newer_major_is_newer(self):
        for overrides in ({"format_major": 2}, {"incompatible": 1}, {"incompatible": 1 << 31},
                          {"format_major": 2, "header_size": 7}):
            log = Log()
            log.segment(**overrides)
            log.last.data += bytes(4096)
            self.write(log)
            with self.assertRaises(fmt.NewerFormat):
                fmt.open_log(self.path)
            self.assertEqual(fmt.describe(self.path), {"verdict": "NEWER"})

    def test_4_3_newer_second_segment_is_newer(self):
        self.write(two_segments(incompatible=4))
        self.assertEqual(fmt.describe(self.path), {"verdict": "NEWER"})

    def test_15_other_feature_bits_minor_and_flags_are_read(self):
        log = Log()
        log.segment(format_minor=9, read_only_compatible=0xFFFFFFFF, compatible=0xFFFFFFFF, flags=0xFFFE,
                    allocated_size=1 << 63).solo(put(b"k"))
        log.last.data[200:210] = b"0123456789"  # ignored: beyond the first 128 bytes
        self.check(log, "Z")

    def test_4_4_values_outside_the_table(self):
        self.refuse(alignment=16)
        self.refuse(salt=0)
        self.refuse(segment_number=2)
        self.refuse(base_lsn=4100)
        self.refuse(prev_end_lsn=5000)
        self.refuse(base_lsn=2**63)
        self.refuse(base_lsn=2**64 - 8)
        self.refuse(first_seq=0)
        self.refuse(format_major=0)

    def test_4_4_header_size(self):
        for size, row in ((128, "Z"), (136, "Z"), (1_048_576, "Z"), (120, "M"), (132, "M"), (1_048_584, "M"),
                          (0, "M"), (0xFFFFFFF8, "M")):
            with self.subTest(size=size):
                log = Log(header_size=size if row == "Z" else 4096)
                if row == "Z":
                    log.segment().solo(put(b"k"))
                    self.check(log, "Z", end_lsn=log.last.lsn)
                else:
                    log.segment()
                    values = bytearray(log.last.data[:124])
                    struct.pack_into("<I", values, 12, size)
                    log.names[1] = bytes(values) + struct.pack("<I", lb.crc(bytes(values))) + bytes(5000)
                    self.check(log, "M", records=[])

    def test_4_5_foreign_log_id_against_control(self):
        self.refuse(log_id=b"another log id!!")

    def test_4_5_foreign_log_id_against_first_segment(self):
        log = two_segments(log_id=b"another log id!!")
        log.no_control()
        self.check(log, "M", records=log.segments[0].expected, segment=2, offset=0, control="lost")

    def test_12_2_application_id_must_agree(self):
        log = two_segments(application_id=1)
        self.check(log, "M", records=log.segments[0].expected, segment=2)

    def test_12_2_prev_end_below_base_of_the_one_before(self):
        log = two_segments(prev_end_lsn=4088)
        self.check(log, "M", records=log.segments[0].expected, segment=2)

    def test_12_2_first_seq_below_that_of_the_one_before(self):
        log = two_segments(first_seq=1)
        self.check(log, "S2", records=log.segments[0].expected, segment=1)
        log = two_segments()
        log.last.seal()
        log.segment(first_seq=4)
        self.check(log, "M", records=[r for s in log.segments for r in s.expected], segment=3)

    def test_8_file_of_header_only_is_an_empty_log(self):
        for size in (128, 1000, 4096):
            log = Log()
            log.segment()
            log.names[1] = bytes(log.last.data[:size])
            self.check(log, "Z", end_lsn=4096, next_seq=1, lsn=4096, offset=4096, evidence_lsn=4096)


class Missing(Case):
    def three(self):
        log = two_segments()
        log.last.seal()
        log.segment().solo(put(b"e"))
        return log

    def test_row_M_segment_in_the_middle(self):
        log = self.three()
        log.names[2] = None
        self.check(log, "M", records=log.segments[0].expected, segment=2, offset=0,
                   lsn=0, end_lsn=log.segments[0].lsn, next_seq=5, last_segment=3, evidence_lsn=4096)

    def test_row_M_first_segment(self):
        log = self.three()
        log.names[1] = None
        self.check(log, "M", records=[], segment=1, end_lsn=0, next_seq=0)

    def test_row_M_last_segment(self):
        log = self.three()
        log.names[3] = None
        self.check(log, "M", records=log.segments[0].expected + log.segments[1].expected, segment=3)

    def test_row_M_all_segments(self):
        log = self.three()
        log.names.update({1: None, 2: None, 3: None})
        self.check(log, "M", records=[], segment=1, last_segment=3)

    def test_row_M_last_segment_of_control_below_first(self):
        log = self.three()
        log.control(first_segment=2, last_segment=1)
        self.check(log, "M", records=[], segment=1, end_lsn=0, next_seq=0)

    def test_row_M_segment_number_0_in_control(self):
        log = self.three()
        log.control(first_segment=0)
        self.check(log, "M", records=[], segment=0)

    def test_12_2_headers_behind_one_that_cannot_be_used_are_not_looked_at(self):
        for names in ({2: b"damaged"}, {2: None}):
            log = self.three()
            newer = Log()
            newer.segment(format_major=2, number=3)
            log.names = {**names, 3: newer.last.bytes()}
            self.check(log, "M", records=log.segments[0].expected, segment=2)
        log.names = {3: newer.last.bytes()}
        self.write(log)
        self.assertEqual(fmt.describe(self.path), {"verdict": "NEWER"})

    def test_12_1_huge_gap_takes_no_time(self):
        log = self.three()
        log.names[fmt.U64_MAX - 1] = b"x"
        self.check(log, "M", segment=4, last_segment=fmt.U64_MAX - 1)

    def test_9_greater_segments_than_last_segment_may_be(self):
        log = self.three()
        log.control(last_segment=1)
        self.check(log, "Z", last_segment=3)

    def test_9_without_control_the_first_missing_segment_goes_unnoticed(self):
        log = self.three()
        log.no_control()
        log.names[1] = None
        self.check(log, "Z", records=log.segments[1].expected + log.segments[2].expected,
                   first_segment=2, truncated_seq=4, control="lost")

    def test_14_5_truncated_log(self):
        log = self.three()
        log.names[1] = None
        log.control(first_segment=2, truncated_seq=5)
        self.check(log, "Z", records=log.segments[2].expected, first_segment=2, truncated_seq=5)

    def test_damage_before_the_missing_segment_is_found_first_with_its_header_at_hand(self):
        log = self.three()
        log.names[3] = None
        log.segments[0].data[4096 + 70] ^= 1
        self.check(log, "S1", records=[], segment=1, offset=4096)


class Accepted(Case):
    """Section 11.1: break one condition in the middle of a log, everything else right."""

    def broken(self, evidence=False, **overrides):
        log = two_batches()
        place = log.last.lsn
        offset = log.last.solo(put(b"x"), **overrides)
        log.last.expected.pop()
        if evidence:
            log.control(durable_lsn=log.last.lsn)
            return self.check(log, "E", segment=1, offset=offset, lsn=place, end_lsn=place,
                              evidence_lsn=log.last.lsn)
        return self.check(log, "T", segment=1, offset=offset, lsn=place, end_lsn=place, next_seq=5)

    def test_11_1_1_file_ends_inside_a_header(self):
        for kept in (1, 8, 63):
            log = two_batches()
            end = len(log.last.data)
            log.last.solo(put(b"x"))
            log.last.expected.pop()
            log.names[1] = bytes(log.last.data[:end + kept])
            self.check(log, "T", offset=end)

    def test_11_1_2_header_crc(self):
        self.broken(header_crc=0x12345678)
        self.broken(header_crc=0x12345678, evidence=True)

    def test_11_1_3_salt_of_another_generation_ends_the_log_cleanly(self):
        log = two_batches()
        end = log.last.lsn
        log.last.solo(put(b"x"), salt=0x77)
        log.last.expected.pop()
        self.check(log, "Z", end_lsn=end, lsn=end)

    def test_11_1_4_lsn(self):
        self.broken(lsn=8)
        self.broken(lsn=8, evidence=True)
        self.broken(lsn=fmt.U64_MAX)

    def test_11_1_5_link(self):
        self.broken(link=1)
        self.broken(link=1, evidence=True)

    def test_11_1_5_link_of_first_frame_is_the_header_crc(self):
        log = Log()
        log.segment().solo(put(b"x"), link=0)
        self.check(log, "T", records=[], end_lsn=4096, next_seq=1)

    def test_11_1_6_hostile_length(self):
        for length in (fmt.PAYLOAD_MAX + 1, 0xFFFFFFFF, fmt.PAYLOAD_MAX, 200):
            self.broken(payload_len=length)
        self.broken(payload_len=0xFFFFFFFF, evidence=True)

    def test_11_1_6_payload_above_the_limit_is_refused_though_all_of_it_is_there(self):
        self.assertEqual(fmt.PAYLOAD_MAX, 67_108_864)
        limit, fmt.PAYLOAD_MAX = fmt.PAYLOAD_MAX, 1000
        try:
            log = two_batches()
            log.last.checkpoint(bytes(1000))
            self.check(log, "Z")
            offset = log.last.checkpoint(bytes(1001))
            self.check(log, "T", offset=offset)
        finally:
            fmt.PAYLOAD_MAX = limit

    def test_11_1_6_padding_must_be_there(self):
        log = two_batches()
        end = len(log.last.data)
        log.last.solo(put(b"x"))  # 13 bytes of payload, 3 of padding
        log.last.expected.pop()
        for missing in (1, 3):
            log.names[1] = bytes(log.last.data[:-missing])
            self.check(log, "T", offset=end)
        log.names.clear()
        log.last.tail = b""
        self.check(log, "Z", records=log.expected + [(5, 1, b"x", b"")])

    def test_5_padding_is_ignored(self):
        log = two_batches()
        log.last.solo(put(b"x"))
        log.last.data[-3:] = b"abc"
        self.check(log, "Z")

    def test_11_1_7_payload_crc(self):
        self.broken(payload_crc=1)
        self.broken(payload_crc=1, evidence=True)

    def test_5_crc_of_an_empty_payload_is_0(self):
        log = two_batches()
        log.last.mark(payload_crc=5)
        self.check(log, "T", records=log.expected)

    def test_frame_in_front_of_a_good_one_is_not_jumped_over(self):
        log = two_batches()
        log.last.data[4096 + 64] ^= 0x80
        self.check(log, "T", records=[], offset=4096, end_lsn=4096, next_seq=1)


class WellFormed(Case):
    """Section 11.4, row W: a frame whose checksums hold and which says what may not be."""

    def malformed(self, make):
        """`make` appends frames of which one, not always the first, is malformed."""
        log = two_batches()
        before = list(log.expected)
        make(log.last)
        self.check(log, "W", records=before, segment=1, offset=log.last.frames[-1][0])

    def at(self, make):
        """`make` appends one malformed frame."""
        log = two_batches()
        place, offset, before = log.last.lsn, len(log.last.data), list(log.expected)
        make(log.last)
        self.check(log, "W", records=before, segment=1, offset=offset, lsn=place, end_lsn=place, next_seq=5)

    def test_types(self):
        for frame_type in (0, 5, 100, 127):
            self.at(lambda s, t=frame_type: s.frame(type=t))

    def test_flags_of_batch(self):
        allowed = {BEGIN | COMMIT, BEGIN | COMMIT | SOLO}
        for flags in range(256):
            if flags in allowed or flags == BEGIN:
                continue
            with self.subTest(flags=flags):  # with no batch open every other combination is wrong
                self.at(lambda s, f=flags: s.frame(lb.record(1, b"k", b"v"), type=1, flags=f, record_count=1))

    def test_flags_of_other_types(self):
        for frame_type, flags in itertools.product((2, 3, 4, 128, 255), (1, 2, 4, 8, 128)):
            self.at(lambda s, t=frame_type, f=flags: s.frame(type=t, flags=f))

    def test_first_seq(self):
        for wrong in (0, 4, 6, fmt.U64_MAX):
            self.at(lambda s, w=wrong: s.solo(put(b"x"), first_seq=w))
            self.at(lambda s, w=wrong: s.checkpoint(first_seq=w))
            self.at(lambda s, w=wrong: s.mark(first_seq=w))
            self.at(lambda s, w=wrong: s.seal(first_seq=w))
            self.at(lambda s, w=wrong: s.frame(type=200, first_seq=w))

    def test_first_seq_of_later_frames_of_a_batch_and_of_abort(self):
        def second_part(s):
            s.part([put(b"x")], BEGIN)
            s.part([put(b"y")], COMMIT, first_seq=4)

        def abort(s):
            s.part([put(b"x")], BEGIN)
            s.abort(first_seq=6)

        self.malformed(second_part)
        self.malformed(abort)

    def test_durable_lsn_above_lsn(self):
        self.at(lambda s: s.mark(durable_lsn=s.lsn + 8))
        self.at(lambda s: s.mark(durable_lsn=fmt.U64_MAX))

    def test_durable_lsn_equal_to_lsn_is_fine(self):
        log = two_batches()
        log.last.mark(durable_lsn=log.last.lsn)
        self.check(log, "Z")

    def test_frames_inside_an_open_batch(self):
        for inside in (lambda s: s.checkpoint(), lambda s: s.mark(), lambda s: s.seal(),
                       lambda s: s.frame(type=128), lambda s: s.part([put(b"z")], BEGIN | COMMIT)):
            def make(s, inside=inside):
                s.part([put(b"x")], BEGIN)
                inside(s)
            self.malformed(make)

    def test_batch_frame_without_begin(self):
        self.at(lambda s: s.frame(lb.record(1, b"k", b""), type=1, flags=0, record_count=1))
        self.at(lambda s: s.frame(type=1, flags=ABORT))

    def test_records_fill_the_payload_exactly(self):
        good = lb.record(1, b"k", b"v")
        for payload, count in ((good, 0), (good, 2), (good, 0xFFFFFFFF), (good + b"\0", 1), (good[:-1], 1),
                               (good[:5], 1), (b"", 1), (b"", 0), (good + good, 1),
                               (lb.record(1, b"", b"", key_len=0xFFFFFFFF, value_len=0xFFFFFFFF), 1),
                               (lb.record(0, b"k", b"v"), 1), (good + lb.record(0, b"", b""), 2)):
            with self.subTest(payload=payload, count=count):
                self.at(lambda s, p=payload, c=count: s.frame(p, type=1, flags=BEGIN | COMMIT, record_count=c))

    def test_solo_has_one_record(self):
        two = lb.record(1, b"k", b"v") * 2
        self.at(lambda s: s.frame(two, type=1, flags=BEGIN | COMMIT | SOLO, record_count=2))

    def test_abort_is_empty(self):
        for payload, count in ((lb.record(1, b"k", b"v"), 1), (b"x", 0), (b"", 1)):
            def make(s, payload=payload, count=count):
                s.part([put(b"x")], BEGIN)
                seq, s.seq = s.seq, s.batch_seq
                s.frame(payload, type=1, flags=ABORT, record_count=count)
            self.malformed(make)

    def test_row_W_below_evidence_comes_before_row_E(self):
        log = two_batches()
        log.control(durable_lsn=1 << 40)
        log.last.frame(type=9)
        self.check(log, "W", records=log.expected, evidence_lsn=1 << 40)

    def test_12_3_promises_around_a_malformed_frame(self):
        log = two_batches()
        one = log.last
        one.sync()
        before = one.lsn
        one.mark()
        one.sync()
        place = one.lsn
        one.frame(type=9)  # malformed and live: it promises its own place
        self.check(log, "W", lsn=place, evidence_lsn=place)
        one.durable_lsn = before
        one.frame(type=9)
        self.check(log, "W", lsn=place, evidence_lsn=place)
        one.sync()
        one.mark()  # live, behind X
        self.check(log, "W", lsn=place, evidence_lsn=place + 128)

    def test_record_count_of_other_types(self):
        for frame_type in (2, 3, 4, 128, 255):
            self.at(lambda s, t=frame_type: s.frame(type=t, record_count=1))

    def test_seal_is_empty(self):
        self.at(lambda s: s.frame(b"x", type=4))

    def test_number_after_a_frame_fits_64_bits(self):
        for make in (lambda s: s.checkpoint(), lambda s: s.solo(put(b"x")), lambda s: s.batch([put(b"x")])):
            log = Log()
            make(log.segment(first_seq=fmt.U64_MAX))
            self.check(log, "W", records=[], next_seq=fmt.U64_MAX)
            log = Log()
            make(log.segment(first_seq=fmt.U64_MAX - 2))
            log.control(truncated_seq=fmt.U64_MAX - 3)
            self.check(log, "Z", next_seq=log.last.seq)
        log = Log()
        log.segment(first_seq=fmt.U64_MAX).mark()
        self.check(log, "Z", next_seq=fmt.U64_MAX)

    def test_row_W_in_a_segment_with_successor(self):
        log = Log()
        one = log.segment()
        one.solo(put(b"a"))
        offset = one.frame(type=77)
        one.seal()
        log.segment().solo(put(b"b"))
        self.check(log, "W", records=one.expected, segment=1, offset=offset)

    def test_6_unknown_ops_are_delivered(self):
        log = Log()
        log.segment().batch([put(b"k", b"v", op) for op in range(1, 256)])
        self.check(log, "Z")

    def test_reserved_ignored_fields_are_ignored(self):
        log = two_batches()
        payload = struct.pack("<BBHII", 2, 0xFF, 0xFFFF, 1, 0) + b"k"
        log.last.frame(payload, type=1, flags=7, record_count=1, reserved_14=0xFFFF, reserved_44=0xFFFFFFFF)
        self.check(log, "Z", records=log.expected + [(5, 2, b"k", b"")])

    def test_5_types_from_128_are_skipped_and_take_no_number(self):
        log = two_batches()
        log.last.frame(b"anything", type=128)
        log.last.frame(type=255)
        log.last.mark(b"ignored")
        log.last.solo(put(b"x"))
        self.check(log, "Z", next_seq=6, end_lsn=log.last.lsn)


class Batches(Case):
    def test_7_numbers(self):
        log = Log()
        one = log.segment()
        one.batch([put(b"a"), put(b"b")], [put(b"c")])  # 1 2 3, COMMIT 4
        one.solo(put(b"d"))  # 5
        one.checkpoint(b"state")  # 6
        one.mark()
        one.part([put(b"lost")], BEGIN)  # 7, given again
        one.abort()
        one.batch([put(b"e")])  # 7, COMMIT 8
        self.check(log, "Z", next_seq=9, end_lsn=one.lsn,
                   records=[(1, 1, b"a", b""), (2, 1, b"b", b""), (3, 1, b"c", b""), (5, 1, b"d", b""), (7, 1, b"e", b"")])

    def test_uncommitted_batch_at_the_end_is_never_replayed(self):
        log = two_batches()
        end = log.last.lsn
        log.last.part([put(b"x")], BEGIN)
        log.last.part([put(b"y")], 0)
        self.check(log, "T", end_lsn=end, next_seq=5, lsn=log.last.lsn)

    def test_batch_is_checked_whole_before_its_first_record(self):
        log = two_batches()
        end = log.last.lsn
        log.last.part([put(b"x")], BEGIN)
        log.last.part([put(b"y")], COMMIT, payload_crc=1)
        log.last.expected = log.last.expected[:-2]
        self.check(log, "T", end_lsn=end)

    def test_end_may_be_below_evidence_where_an_open_batch_was_synced(self):
        log = two_batches()
        end = log.last.lsn
        log.last.part([put(b"x")], BEGIN)
        log.control(durable_lsn=log.last.lsn)
        self.check(log, "T", end_lsn=end, evidence_lsn=log.last.lsn)

    def test_abort_after_several_frames(self):
        log = Log()
        one = log.segment()
        one.part([put(b"x"), put(b"y")], BEGIN)
        one.part([put(b"z")], 0)
        one.abort()
        one.solo(put(b"a"))
        self.check(log, "Z", records=[(1, 1, b"a", b"")], next_seq=2)

    def test_record_fields(self):
        log = Log()
        one = log.segment()
        one.batch([put(b"a")], [put(b"b", b"v", 200)])
        self.write(log)
        first, second = fmt.open_log(self.path).records()
        self.assertEqual(second, fmt.Record(2, 200, b"b", b"v", lb.TIME_NS + 2, 4096 + 80, 4096))
        self.assertEqual((first.lsn, first.batch_id), (4096, 4096))
        with self.assertRaises(AttributeError):
            first.seq = 5

    def test_after_seq(self):
        log = two_segments()
        log.control(truncated_seq=1)
        self.write(log)
        for after, expected in ((0, [2, 4, 5]), (1, [2, 4, 5]), (2, [4, 5]), (4, [5]), (5, []), (1 << 70, [])):
            self.assertEqual([r.seq for r in fmt.open_log(self.path).records(after)], expected)

    def test_huge_batch_is_read_twice_instead_of_being_held(self):
        log = Log()
        one = log.segment()
        one.solo(put(b"before"))
        one.batch(*[[put(b"k%d" % i, bytes([i]) * 3000)] for i in range(20)])
        one.solo(put(b"after"))
        held, fmt.BATCH_HELD_MAX = fmt.BATCH_HELD_MAX, 10_000
        try:
            self.check(log, "Z")
        finally:
            fmt.BATCH_HELD_MAX = held

    def test_frames_gives_all_accepted_frames(self):
        log = two_segments()
        log.last.part([put(b"open")], BEGIN)
        self.write(log)
        frames = list(fmt.open_log(self.path).frames())
        self.assertEqual([(f.segment, f.offset) for f in frames],
                         [(s.number, offset) for s in log.segments for offset, _ in s.frames])
        self.assertEqual([f.type for f in frames], [1, 1, 4, 1, 1])
        for frame, raw in zip(frames, (raw for s in log.segments for _, raw in s.frames)):
            self.assertEqual((frame.size, frame.payload, frame.header_crc),
                             (len(raw), raw[64:64 + frame.payload_len], struct.unpack_from("<I", raw)[0]))


class Segments(Case):
    def test_row_S3_goes_on(self):
        log = two_segments()
        self.check(log, "Z", end_lsn=log.last.lsn, segment=2, next_seq=7)

    def test_8_gap_of_lsns_after_an_unclean_end(self):
        log = two_batches()
        log.last.tail = b"\xff" * 100  # a torn end, left as it is
        base = -(-(log.last.lsn + 2**33) // 2**34) * 2**34
        log.segment(gap=base - log.last.lsn)
        self.check(log, "Z", end_lsn=base, lsn=base, next_seq=5, evidence_lsn=base)
        log.last.solo(put(b"d"))
        self.check(log, "Z", end_lsn=base + 80)

    def test_12_4_what_lies_beyond_prev_end_is_no_part_of_the_log(self):
        log = two_batches()
        one = log.last
        end, link, seq = one.lsn, one.link, one.seq
        one.part([put(b"uncommitted")], BEGIN)
        one.frame(type=99)
        log.segment(base_lsn=2**34, prev_end_lsn=end, prev_link=link, first_seq=seq).solo(put(b"d"))
        self.check(log, "Z")

    def test_row_S1_damage_before_prev_end(self):
        log = two_segments()
        log.segments[0].data[4096] ^= 1
        self.check(log, "S1", records=[], segment=1, offset=4096, lsn=4096, end_lsn=4096, next_seq=1)

    def test_12_3_before_the_last_segment_only_control_and_tail_page_promise(self):
        log = two_segments()
        log.segments[0].data[4096] ^= 1
        log.last.sync()
        log.last.mark()
        log.control(durable_lsn=4104)
        self.check(log, "S1", records=[], evidence_lsn=4104)
        log.tail = lb.tail_page((4112, 4108))
        self.check(log, "S1", records=[], evidence_lsn=4112)
        log.segments[0].data[4096] ^= 1
        log.names[2] = b"damaged"
        self.check(log, "M", records=log.segments[0].expected, evidence_lsn=4112)
        log = two_batches()
        log.last.mark(durable_lsn=4096, record_count=1)
        log.segment()
        log.names[2] = b"damaged"
        log.tail = lb.tail_page((4112,))
        self.check(log, "W", records=log.expected, evidence_lsn=4112)

    def test_row_S1_seal_before_prev_end(self):
        log = two_batches()
        one = log.last
        one.seal()
        end, offset = one.lsn, len(one.data)
        one.solo(put(b"x"))
        one.expected.pop()
        log.segment()
        self.check(log, "S1", segment=1, offset=offset, lsn=end, end_lsn=end)

    def test_row_M_a_seal_ends_the_segment_before_the_missing_one(self):
        log = two_segments()
        one = log.segments[0]
        end = one.lsn
        one.frame(type=9)
        one.solo(put(b"x"))
        one.expected.pop()
        log.names[2] = b"damaged"
        self.check(log, "M", records=one.expected, segment=2, end_lsn=end)

    def test_row_S1_malformed_frame_that_reaches_beyond_prev_end(self):
        log = two_batches()
        one = log.last
        end, offset, link, seq = one.lsn, len(one.data), one.link, one.seq
        one.frame(b"12345678", type=9)
        log.segment(prev_end_lsn=end + 64, prev_link=link, first_seq=seq)
        self.check(log, "S1", segment=1, offset=offset, lsn=end, end_lsn=end)

    def test_row_S1_file_too_short(self):
        log = two_segments()
        log.names[1] = log.segments[0].bytes()[:4096 + 40]
        self.check(log, "S1", records=[], segment=1, offset=4096)

    def test_row_S1_prev_end_inside_a_frame(self):
        log = Log()
        one = log.segment()
        one.solo(put(b"a"))
        first_end = one.lsn
        one.solo(put(b"b"))
        one.expected.pop()
        log.segment(prev_end_lsn=first_end + 8).solo(put(b"c"))
        self.check(log, "S1", records=one.expected, segment=1, offset=4096 + 80, lsn=first_end)

    def test_row_S1_prev_end_beyond_the_frames(self):
        log = two_batches()
        one = log.last
        log.segment(prev_end_lsn=one.lsn + 8)
        self.check(log, "S1", segment=1, offset=len(one.data))

    def test_row_S1_batch_open_at_prev_end(self):
        log = two_batches()
        end = log.last.lsn
        log.last.part([put(b"x")], BEGIN)
        log.segment()
        self.check(log, "S1", lsn=log.segments[0].lsn, end_lsn=end, next_seq=5)

    def test_row_S2_link(self):
        log = two_segments(prev_link=3)
        self.check(log, "S2", records=log.segments[0].expected, segment=1, lsn=log.segments[0].lsn,
                   end_lsn=log.segments[0].lsn)

    def test_row_S2_sequence_number(self):
        log = two_segments(first_seq=9)
        self.check(log, "S2", records=log.segments[0].expected, segment=1)

    def test_prev_link_of_an_empty_segment_is_its_header_crc(self):
        log = Log()
        log.segment()
        log.segment(gap=2**34).solo(put(b"a"))
        self.assertEqual(log.segments[0].link, log.segments[0].header_crc)
        self.check(log, "Z")

    def test_unusable_successor_lets_the_one_before_be_read_to_its_end(self):
        log = two_segments(crc=0)
        self.check(log, "M", records=log.segments[0].expected, segment=2, offset=0, next_seq=5,
                   end_lsn=log.segments[0].lsn)

    def test_14_6_rescue(self):
        log = Log()
        one = log.segment()
        one.solo(put(b"a"))
        k_offset, k_lsn, k_link, k_seq = len(one.data), one.lsn, one.link, one.seq
        one.batch([put(b"b"), put(b"c")])
        one.solo(put(b"d"))
        end_lsn, end_seq = one.lsn, one.seq
        expected = list(one.expected)
        one.part([put(b"lost")], BEGIN)
        rescue = log.segment(base_lsn=k_lsn, prev_end_lsn=k_lsn, prev_link=k_link, first_seq=k_seq, flags=1,
                             durable_lsn=end_lsn)
        rescue.copy_frames(one, k_offset)
        rescue.data = rescue.data[:rescue.header_size + end_lsn - k_lsn]  # not the uncommitted frame
        rescue.frames.pop()
        rescue.link = struct.unpack_from("<I", rescue.frames[-1][1])[0]
        rescue.seq = end_seq
        rescue.seal()
        self.check(log, "Z", records=expected, segment=2, next_seq=end_seq, end_lsn=end_lsn + 64,
                   evidence_lsn=end_lsn)
        # One copied frame damaged: it was promised by the header.
        kept = rescue.data[4096 + 3]
        rescue.data[4096 + 3] ^= 1
        self.check(log, "E", records=expected[:1], segment=2, offset=4096)
        rescue.data[4096 + 3] = kept
        # And the segment after it.
        log.segment(gap=2**34 - rescue.lsn).solo(put(b"e"))
        self.check(log, "Z", records=expected + [(end_seq, 1, b"e", b"")])


class LastSegment(Case):
    def test_row_Z_zero_header_or_end_of_file(self):
        for tail in (b"", b"\0", bytes(63), bytes(64), bytes(100), bytes(5000)):
            log = two_batches()
            log.last.tail = tail
            self.check(log, "Z", end_lsn=log.last.lsn, lsn=log.last.lsn, next_seq=5, evidence_lsn=4096)

    def test_row_Z_needs_only_64_zero_bytes(self):
        log = two_batches()
        log.last.tail = bytes(64) + b"\xaa" * 500
        self.check(log, "Z")

    def test_row_T_garbage(self):
        for tail in (b"\1", bytes(63) + b"\1", b"\xff" * 1000, bytes(10) + b"\1"):
            log = two_batches()
            log.last.tail = tail
            self.check(log, "T", end_lsn=log.last.lsn)

    def test_row_T_zero_header_and_a_live_frame_beyond(self):
        for distance in (64, 72, 1 << 20, (1 << 20) + 8, (1 << 20) - 64, (1 << 20) - 8):
            log = two_batches()
            end = log.last.lsn
            log.last.data += bytes(distance)
            log.last.frame(type=200)
            self.check(log, "T", records=log.expected, end_lsn=end)

    def test_11_2_what_is_not_live_does_not_count(self):
        for overrides in (dict(type=0), dict(lsn=4096), dict(durable_lsn=1 << 40), dict(header_crc=3), dict(salt=9)):
            log = two_batches()
            end = log.last.lsn
            log.last.data += bytes(64)
            log.last.frame(**{**dict(type=3), **overrides})
            self.check(log, "Z", records=log.expected, end_lsn=end)

    def test_11_2_frame_at_no_multiple_of_8_is_not_live(self):
        log = two_batches()
        end = log.last.lsn
        log.last.data += bytes(68)
        log.last.mark()
        self.check(log, "Z", records=log.expected, end_lsn=end)

    def test_row_T_live_frame_whose_file_ends_before_its_payload(self):
        log = two_batches()
        log.last.data += bytes(64)
        log.last.frame(type=1, payload_len=5000)
        log.last.tail = b""
        self.check(log, "T", records=log.expected)

    def test_row_E_live_frame_promises_what_is_damaged(self):
        log = Log()
        one = log.segment()
        one.solo(put(b"a"))
        damaged, seen = one.lsn, list(one.expected)
        one.solo(put(b"b"))
        one.sync()
        one.solo(put(b"c"))
        one.data[4096 + 80 + 66] ^= 0x10
        self.check(log, "E", records=seen, segment=1, offset=4096 + 80, lsn=damaged, end_lsn=damaged,
                   evidence_lsn=damaged + 80)

    def test_row_E_zeros_in_the_middle(self):
        log = Log()
        one = log.segment()
        one.solo(put(b"a"))
        one.solo(put(b"b"))
        one.sync()
        one.solo(put(b"c"))
        one.data[4096:4096 + 160] = bytes(160)
        self.check(log, "E", records=[], offset=4096, evidence_lsn=4096 + 160)

    def test_17_residue_last_group_not_promised_anywhere_is_cut(self):
        log = Log()
        one = log.segment()
        one.solo(put(b"a"))
        one.sync()
        one.solo(put(b"b"))
        one.data[-10] ^= 1
        # The damaged frame is live, and promises no more than what stands before it.
        self.check(log, "T", records=one.expected[:1], lsn=4096 + 80, evidence_lsn=4096 + 80)

    def test_12_3_promise_of_an_accepted_frame(self):
        log = two_batches()
        log.last.sync()
        promised = log.last.lsn
        log.last.mark()
        self.check(log, "Z", evidence_lsn=promised)

    def test_row_E_control(self):
        log = two_batches()
        log.control(durable_lsn=log.last.lsn + 8)
        self.check(log, "E", lsn=log.last.lsn, evidence_lsn=log.last.lsn + 8)
        log.control(durable_lsn=log.last.lsn)
        self.check(log, "Z", evidence_lsn=log.last.lsn)

    def test_row_E_header_promise(self):
        log = Log()
        log.segment(durable_lsn=4104)
        self.check(log, "E", lsn=4096, evidence_lsn=4104)

    def test_row_E_tail_page(self):
        log = two_batches()
        end = log.last.lsn
        for durable in ((end + 8,), (0, end + 8), (end + 8, 16)):
            log.tail = lb.tail_page(durable)
            self.check(log, "E", evidence_lsn=end + 8)
        log.tail = lb.tail_page((end, end - 16))
        self.check(log, "Z", evidence_lsn=end)

    def test_10_tail_page_that_is_no_promise(self):
        log = two_batches()
        beyond = (log.last.lsn + 8, log.last.lsn + 16)
        for tail in (lb.tail_page(beyond, log_id=b"another log id!!"), lb.tail_page(beyond, boot=bytes(16)),
                     lb.tail_page(beyond, magic=b"\x8fDURTLP\r"), lb.tail_page(beyond, check_xor=1),
                     lb.tail_page(beyond, check_xor=1 << 32), b"", lb.tail_page(beyond)[:60],
                     lb.tail_page(beyond)[:4095], b"x" * 4096):
            log.tail = tail
            self.check(log, "Z", evidence_lsn=4096)

    def test_row_Z_seal_ends_the_log_whatever_follows(self):
        log = two_batches()
        log.last.seal()
        log.last.tail = b"\xff" * 300
        self.check(log, "Z", end_lsn=log.last.lsn, lsn=log.last.lsn, offset=len(log.last.data))

    def test_row_Z_nothing_behind_a_seal_is_looked_at(self):
        log = two_batches()
        log.last.seal()
        end = log.last.lsn
        log.last.sync()
        log.last.mark()
        log.last.sync()
        log.last.mark()
        self.check(log, "Z", end_lsn=end, lsn=end, evidence_lsn=4096)

    def test_row_E_seal_below_the_evidence(self):
        log = two_batches()
        log.last.seal()
        log.control(durable_lsn=log.last.lsn + 64)
        self.check(log, "E", lsn=log.last.lsn)

    def test_row_T_batch_open_before_a_zero_header(self):
        log = Log()
        log.segment().part([put(b"x")], BEGIN)
        self.check(log, "T", records=[], end_lsn=4096, lsn=4096 + 80)

    def test_hostile_fill_of_salts_is_searched_in_reasonable_time(self):
        log = Log()
        log.segment(salt=0x01010101).solo(put(b"a"))
        log.last.tail = b"\1" * 2_500_000
        self.check(log, "T")

    def test_large_segment_is_read_through_windows(self):
        log = Log()
        one = log.segment()
        for i in range(40):
            one.batch([put(b"%d" % i, os.urandom(30_000))])
        one.solo(put(b"big", os.urandom(600_000)))
        one.solo(put(b"end"))
        self.check(log, "Z", end_lsn=one.lsn)


class Control(Case):
    def log(self):
        return two_batches()

    def test_9_greatest_generation_counts(self):
        for order in ((1, 2), (2, 1)):
            log = self.log()
            log.slots = [log.control_slot(g, truncated_seq=g) for g in order]
            self.check(log, "Z", truncated_seq=2, control="good", records=[(4, 1, b"c", b"333")])

    def test_9_one_slot_broken(self):
        for broken in (dict(magic=b"12345678"), dict(crc=9), dict(format_major=0), dict(state=2), dict(generation=0)):
            with self.subTest(broken=broken):
                log = self.log()
                good = log.control_slot(1, truncated_seq=1)
                bad = log.control_slot(**{"generation": 5, **broken})
                for log.slots in ([bad, good], [good, bad]):
                    self.check(log, "Z", control="one_slot", truncated_seq=1, records=log.expected[1:])

    def test_9_second_slot_cut_off(self):
        for kept, state in ((2000, "good"), (128, "good"), (127, "one_slot"), (0, "one_slot")):
            log = self.log()
            log.slots = [log.control_slot(1), log.control_slot(2)[:kept]]
            self.check(log, "Z", control=state)

    def test_9_of_two_equal_generations_the_first_counts(self):
        log = self.log()
        log.slots = [log.control_slot(3, truncated_seq=1), log.control_slot(3, truncated_seq=2)]
        self.check(log, "Z", truncated_seq=1, control="good", records=log.expected[1:])

    def test_9_lost(self):
        for slots in ([], [b""], [b"torn"], [bytes(8192)], [b"\xff" * 8192]):
            log = self.log()
            log.slots = slots
            self.check(log, "Z", control="lost", truncated_seq=0, first_segment=1)

    def test_9_newer_slot_makes_the_log_newer_even_beside_a_good_one(self):
        log = self.log()
        log.slots = [log.control_slot(1), log.control_slot(2, format_major=2)]
        self.write(log)
        self.assertEqual(fmt.describe(self.path), {"verdict": "NEWER"})
        log.slots[1] = log.control_slot(2, format_major=2, crc=0)
        self.check(log, "Z", control="one_slot")

    def test_9_minor_and_closed_and_reserved_are_read(self):
        log = self.log()
        log.control(format_minor=3, state=1, end_lsn=log.last.lsn, next_seq=5, reserved_108=7, reserved_120=7)
        self.check(log, "Z", control="good")

    def test_truncation_inside_a_segment(self):
        log = self.log()
        log.control(truncated_seq=2)
        self.check(log, "Z", records=log.expected[2:])

    def test_everything_truncated(self):
        log = self.log()
        log.control(truncated_seq=fmt.U64_MAX)
        self.check(log, "Z", records=[])

    def test_17_crash_before_control_was_created(self):
        log = Log()
        log.segment()
        log.no_control()
        self.check(log, "Z", records=[], control="lost")


class Live(Case):
    def live(self, log, acknowledged_lsn):
        log.tail = lb.tail_page((), acknowledged_lsn)
        self.write(log)
        return [r.seq for r in fmt.open_log(self.path, live=True).records()]

    def test_12_stops_at_acknowledged_lsn_without_judging(self):
        log = two_segments()
        one, two = log.segments
        two.tail = b"\xff" * 100
        first_batch_end = one.base_lsn + len(one.frames[0][1])
        self.assertEqual(self.live(log, 0), [])
        self.assertEqual(self.live(log, first_batch_end - 8), [])
        self.assertEqual(self.live(log, first_batch_end), [1, 2])
        self.assertEqual(self.live(log, one.lsn), [1, 2, 4])
        self.assertEqual(self.live(log, two.lsn), [1, 2, 4, 5])

    def test_seal_at_acknowledged_lsn(self):
        log = two_batches()
        log.last.seal()
        self.assertEqual(self.live(log, log.last.lsn), [1, 2, 4])

    def test_damage_below_acknowledged_lsn_is_corruption(self):
        log = two_batches()
        log.last.data[-12] ^= 1
        with self.assertRaises(fmt.Corrupt) as caught:
            self.live(log, log.last.lsn)
        self.assertEqual(caught.exception.row, "E")

    def test_no_verdict_beside_a_live_writer(self):
        log = two_batches()
        self.live(log, log.last.lsn)
        with self.assertRaises(fmt.FormatError):
            fmt.open_log(self.path, live=True).verdict()

    def test_tail_page_of_an_earlier_boot_no_live_reader(self):
        log = two_batches()
        log.tail = lb.tail_page((), log.last.lsn, boot=bytes(16))
        self.write(log)
        with self.assertRaises(fmt.FormatError):
            fmt.open_log(self.path, live=True)

    def test_no_tail_page_no_live_reader(self):
        self.write(two_batches())
        with self.assertRaises(fmt.FormatError):
            fmt.open_log(self.path, live=True)


class Table(unittest.TestCase):
    """Section 13 again, as one condition per row that does not lean on the rows above it."""

    ROWS = {
        "R": lambda f: f.read_failed,
        "M": lambda f: not f.read_failed and f.segment_unusable,
        "W": lambda f: not f.read_failed and not f.segment_unusable and f.malformed,
        "S1": lambda f: Table.plain(f) and not f.last_segment and not (f.at_prev_end and not f.batch_open),
        "S2": lambda f: Table.plain(f) and not f.last_segment and f.at_prev_end and not f.batch_open
        and not f.chain_agrees,
        "S3": lambda f: Table.plain(f) and not f.last_segment and f.at_prev_end and not f.batch_open
        and f.chain_agrees,
        "E": lambda f: Table.plain(f) and f.last_segment and f.below_evidence,
        "Z": lambda f: Table.plain(f) and f.last_segment and not f.below_evidence and Table.clean(f),
        "T": lambda f: Table.plain(f) and f.last_segment and not f.below_evidence and not Table.clean(f),
    }

    @staticmethod
    def plain(f):
        return not (f.read_failed or f.segment_unusable or f.malformed)

    @staticmethod
    def clean(f):
        return not f.batch_open and (f.sealed or (f.blank and not f.live_beyond))

    def test_every_combination_of_facts_has_exactly_one_row(self):
        seen = set()
        for values in itertools.product((False, True), repeat=len(fmt.Facts._fields)):
            facts = fmt.Facts(*values)
            rows = [row for row, applies in self.ROWS.items() if applies(facts)]
            self.assertEqual(len(rows), 1, facts)
            self.assertEqual(fmt.decide(facts), rows[0], facts)
            seen.add(rows[0])
        self.assertEqual(seen, set(self.ROWS))


class DamageEverywhere(Case):
    """Any damage may cost records and must then be visible; it never changes one."""

    def small_log(self):
        """Two segments with short headers, every kind of frame, a promise in between, a tail page."""
        log = Log(header_size=128)
        one = log.segment()
        one.batch([put(b"a", b"1")], [put(b"b", b"22")])
        one.part([put(b"gone")], BEGIN)
        one.abort()
        one.checkpoint(b"cp")
        one.seal()
        two = log.segment()
        two.solo(put(b"c", b"333"))
        two.sync()
        two.batch([put(b"d"), put(b"e", b"5")])
        two.frame(b"new", type=130)
        log.tail = lb.tail_page((two.lsn - 64, 0), two.lsn)
        return log

    def observe(self, original, name, place):
        """Read the damaged log. Gives (verdict, records)."""
        try:
            reader = fmt.open_log(self.path)
            verdict = reader.verdict()
        except (fmt.NotALog, fmt.NewerFormat):
            return None, []
        found = []
        try:
            for r in reader.records():
                found.append((r.seq, r.op, r.key, r.value))
        except fmt.Corrupt:
            self.assertEqual(verdict.verdict, "CORRUPT")
        else:
            self.assertIn(verdict.verdict, ("CLEAN_END", "TORN"))
        self.assertEqual(found, original[:len(found)], (name, place))
        if verdict.verdict == "CLEAN_END":
            self.assertEqual(found, original, (name, place, verdict))
        return verdict, found

    def test_every_bit_flipped(self):
        log = self.small_log()
        self.check(log, "Z")
        seen = set()
        ignored_padding = 0
        for number in (1, 2):
            path = os.path.join(self.path, f"{number:020d}.wal")
            data = bytearray(log.segments[number - 1].bytes())
            with open(path, "r+b", buffering=0) as file:
                for place in range(len(data) * 8):
                    index, bit = divmod(place, 8)
                    os.pwrite(file.fileno(), bytes([data[index] ^ 1 << bit]), index)
                    verdict, found = self.observe(log.expected, number, place)
                    self.assertIsNotNone(verdict)
                    seen.add(verdict.row)
                    if index < len(data) - 64 and found == log.expected and verdict.row == "Z":
                        ignored_padding += 1
                    os.pwrite(file.fileno(), bytes([data[index]]), index)
        # Only padding may change unnoticed: count its bits from the frames.
        padding = sum(-struct.unpack_from("<I", raw, 8)[0] % 8 * 8 for s in log.segments for _, raw in s.frames)
        self.assertEqual(ignored_padding, padding)
        self.assertEqual(seen, {"M", "S1", "E", "Z", "T"})

    def test_every_bit_of_control_and_tail_flipped(self):
        log = self.small_log()
        log.slots = [log.control_slot(1), log.control_slot(2)]
        self.write(log)
        for name, ranges in (("control", (range(128), range(4096, 4096 + 128), range(130, 4096, 97))),
                             ("tail", (range(80), range(128, 144), range(150, 4096, 97)))):
            with open(os.path.join(self.path, name), "r+b", buffering=0) as file:
                data = os.pread(file.fileno(), 8192, 0)
                for index, bit in itertools.product(itertools.chain(*ranges), range(8)):
                    os.pwrite(file.fileno(), bytes([data[index] ^ 1 << bit]), index)
                    verdict, found = self.observe(log.expected, name, index)
                    self.assertEqual(verdict.verdict, "CLEAN_END", (name, index))
                    self.assertEqual(verdict.control, "one_slot" if name == "control" and index % 4096 < 128
                                     else "good")
                    os.pwrite(file.fileno(), bytes([data[index]]), index)

    def test_every_bit_flipped_and_checksums_made_right_again(self):
        """What a hostile writer can do: the checks behind the checksums must hold alone."""
        log = self.small_log()
        self.write(log)
        path = os.path.join(self.path, f"{2:020d}.wal")
        two = log.segments[1]
        data = two.bytes()
        for offset, size, crc_at in [(0, 128, 124)] + [(o, 64, 0) for o, _ in two.frames]:
            for place in range(size * 8):
                index, bit = divmod(place, 8)
                part = bytearray(data[offset:offset + size])
                part[index] ^= 1 << bit
                covered = part[:124] if size == 128 else part[4:]
                struct.pack_into("<I", part, crc_at, lb.crc(bytes(covered)))
                with open(path, "wb") as file:
                    file.write(data[:offset] + bytes(part) + data[offset + size:])
                result = fmt.describe(self.path)  # any verdict, no other exception
                self.assertIn(result["verdict"], ("CLEAN_END", "TORN", "CORRUPT", "NEWER"))
                json.dumps(result)

    def test_cut_at_every_byte(self):
        log = self.small_log()
        for number in (1, 2):
            self.write(log)
            path = os.path.join(self.path, f"{number:020d}.wal")
            data = log.segments[number - 1].bytes()
            for size in range(len(data)):
                with open(path, "wb") as file:
                    file.write(data[:size])
                verdict, _ = self.observe(log.expected, number, size)
                if number == 1 and size < len(data) - 64:
                    self.assertEqual(verdict.verdict, "CORRUPT")

    def test_zeroed_from_every_byte(self):
        log = self.small_log()
        self.write(log)
        data = log.last.bytes()
        for size in range(128, len(data)):
            with open(os.path.join(self.path, f"{2:020d}.wal"), "wb") as file:
                file.write(data[:size] + bytes(len(data) - size))
            # Zeros from a frame's start on look like a clean end: that is the residue of section 17.
            reader = fmt.open_log(self.path)
            verdict = reader.verdict()
            if verdict.verdict == "CORRUPT":
                self.assertLess(verdict.lsn, verdict.evidence_lsn)
                continue
            found = [(r.seq, r.op, r.key, r.value) for r in reader.records()]
            self.assertEqual(found, log.expected[:len(found)])

    def test_evidence_leaves_no_clean_end_below_it(self):
        log = self.small_log()
        log.control(durable_lsn=log.last.lsn)
        self.write(log)
        data = log.last.bytes()
        for size in range(128, len(data) - 64 - 8):
            with open(os.path.join(self.path, f"{2:020d}.wal"), "wb") as file:
                file.write(data[:size])
            self.assertEqual(fmt.open_log(self.path).verdict().row, "E")


class CommandLine(Case):
    def run_main(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = fmt.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def test_report_names_segments_verdict_and_counts(self):
        self.write(two_segments())
        code, out, _ = self.run_main(self.path)
        self.assertEqual(code, 0)
        for part in (f"{1:020d}.wal", f"{2:020d}.wal", "CLEAN_END (row Z)", "records    4", "control    good"):
            self.assertIn(part, out)

    def test_report_of_a_damaged_log(self):
        log = two_segments(crc=5)
        self.write(log)
        code, out, _ = self.run_main(self.path)
        self.assertEqual(code, 1)
        self.assertIn("CORRUPT (row M)", out)
        self.assertIn("can't be used", out)

    def test_report_of_no_log(self):
        os.makedirs(self.path)
        code, _, err = self.run_main(self.path)
        self.assertEqual(code, 1)
        self.assertIn("NotALog", err)

    def test_json_is_describe_on_one_line(self):
        self.write(two_segments())
        code, out, _ = self.run_main("--json", self.path)
        self.assertEqual((code, out.count("\n")), (0, 1))
        self.assertEqual(json.loads(out), fmt.describe(self.path))

    def test_records(self):
        self.write(two_segments())
        code, out, _ = self.run_main("--records", self.path)
        self.assertEqual((code, len(out.splitlines())), (0, 4))
        self.assertIn("b'c'", out)

    def test_compare(self):
        log = two_segments()
        self.write(log)
        good = {"path": self.path, **fmt.describe(self.path)}
        lines = os.path.join(os.path.dirname(self.path), "expected.jsonl")

        def compare(*expected):
            with open(lines, "w") as file:
                for one in expected:
                    file.write(json.dumps(one) + "\n")
            return self.run_main("--compare", lines)[:2]

        self.assertEqual(compare(good, {"path": self.path, "row": "Z"}), (0, "2 compared, 0 differ\n"))
        code, out = compare(good, {**good, "row": "T", "end_lsn": 1}, {"path": self.path, "no_such": 1}, [])
        self.assertEqual(code, 1)
        self.assertTrue(out.endswith("4 compared, 3 differ\n"), out)
        self.assertIn("row: expected 'T', found 'Z'", out)
        self.assertIn("end_lsn: expected 1, found", out)


if __name__ == "__main__":
    unittest.main()
