"""A few texts, and what each task is to answer to them."""

from __future__ import annotations

TEXTS = ["good film", "the plot was bad , not fine", "very dull", "我爱电影 good film"] * 4
ENTITIES = [[(5, 9, "THING")], [(4, 8, "THING"), (13, 16, "MOOD")], [(5, 9, "MOOD")], [(2, 4, "THING")]] * 4
TAGS = ["O", "B-MOOD", "I-MOOD", "B-THING", "I-THING"]
QUESTIONS = ["good", "bad", "dull", "film"] * 4
ANSWERS = [[("film", 5)], [("plot", 4)], [("very", 0)], [("电影", 2), ("film", 10)]] * 4
