#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is read off the points of a measurement (tools/bench/index_front.py).

usage: bench_front.py

Goal: a comparison at equal recall takes the best that was measured, interpolates only between neighbours on
the front, and never gives a speed for a recall that was not reached.

Method: points made by hand. Python's standard library only.
"""
import math
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools" / "bench"))
import index_front  # noqa: E402


def points(*pairs):
    return [{"recall": recall, "qps": qps} for recall, qps in pairs]


class Front(unittest.TestCase):
    def test_beaten_points_are_left_out(self):
        front = index_front.front_of(points((0.9, 100), (0.8, 90), (0.95, 50), (0.9, 80), (0.7, 200), (0.95, 40)))
        self.assertEqual([(point["recall"], point["qps"]) for point in front], [(0.7, 200), (0.9, 100), (0.95, 50)])

    def test_between_two_points_the_logarithm_is_linear(self):
        some = points((0.9, 1000), (0.98, 10))
        self.assertAlmostEqual(index_front.at_recall(some, 0.94), 100)
        self.assertAlmostEqual(index_front.at_recall(some, 0.98), 10)
        self.assertAlmostEqual(index_front.at_recall(some, 0.9), 1000)

    def test_the_fastest_point_stands_for_lower_recalls(self):
        self.assertEqual(index_front.at_recall(points((0.9, 1000)), 0.5), 1000)

    def test_what_is_not_reached_has_no_speed(self):
        self.assertIsNone(index_front.at_recall(points((0.9, 1000)), 0.91))
        self.assertIsNone(index_front.at_recall([], 0.5))

    def test_measured_anew_the_two_ends_give_the_same_interpolation(self):
        some = points((0.8, 4000), (0.9, 1000), (0.98, 10))
        below, above = index_front.bracket(index_front.front_of(some), 0.94)
        self.assertEqual((below["recall"], above["recall"]), (0.9, 0.98))
        self.assertAlmostEqual(index_front.between(below, above, 0.94), math.sqrt(1000 * 10))
        # A measurement that swapped them must not extrapolate.
        self.assertEqual(index_front.between({"recall": 0.97, "qps": 5}, {"recall": 0.96, "qps": 7}, 0.94), 7)


class Choice(unittest.TestCase):
    def test_those_that_lose_least_together(self):
        cases = [{"a": 100, "b": 90, "c": 10}, {"a": 10, "b": 90, "c": 100}, {"a": 50, "b": 45}]
        self.assertEqual(index_front.choose(cases, 1), ["b"])
        self.assertEqual(set(index_front.choose(cases, 3)), {"a", "b", "c"})
        self.assertEqual(index_front.choose(cases, 9).__len__(), 3)

    def test_a_case_that_is_not_reached_weighs(self):
        cases = [{"a": 100, "b": 80}, {"b": 1}]
        self.assertEqual(index_front.choose(cases, 1), ["b"])

    def test_without_cases_there_is_no_choice(self):
        self.assertEqual(index_front.choose([{}, {}], 3), [])


class Table(unittest.TestCase):
    def test_is_markdown(self):
        self.assertEqual(index_front.table(["a", "b"], [["x", 1]]), "| a | b |\n|---|---:|\n| x | 1 |\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
