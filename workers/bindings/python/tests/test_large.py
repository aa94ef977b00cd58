"""Values of a megabyte and more: whole, unchanged, and copied once."""

import os
import resource
import unittest

import support

MIB = 1 << 20


class Large(support.HostCase):
    options = ("--max-inflight-bytes", str(256 * MIB))

    def setUp(self):
        super().setUp()
        self.mq.timeout = 5 * support.WAIT_S

    def roundtrip(self, size):
        value = os.urandom(MIB) * (size // MIB) + os.urandom(size % MIB)
        self.assertIs(self.mq.set("big", value), True)
        self.assertEqual(self.mq.command("STRLEN", "big"), size)
        self.assertTrue(self.mq.get("big") == value)
        return value

    def test_around_the_sizes_that_matter(self):
        for size in (900, 1000, 1024, 1025, 4095, 4096, 65535, 65536, 65537):
            self.roundtrip(size)

    def test_1_mib(self):
        self.roundtrip(MIB)

    def test_20_mib(self):
        value = self.roundtrip(20 * MIB)
        self.assertTrue(self.mq.batch([("GET", "big"), ("PING",)])[0] == value)
        self.assertTrue(self.mq.submit("GET", "big").result() == value)

    def test_in_a_child_of_fork(self):
        self.mq.command("PING")
        self.assertEqual(support.in_child(lambda: self.roundtrip(2 * MIB)), 0)

    def test_a_large_value_is_not_copied_again_and_again(self):
        def child():
            self.mq.set("k", b"v")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert len(self.mq.get("big")) == 20 * MIB
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            # The library's copy and Python's; what the library's buffer grew
            # to meanwhile may be twice that.
            assert after - before < 85 * 1024, after - before

        self.mq.set("big", bytes(20 * MIB))
        self.assertEqual(support.in_child(child), 0)


if __name__ == "__main__":
    unittest.main()
