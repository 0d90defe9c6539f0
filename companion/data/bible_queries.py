"""Verses of Proverbs, Ecclesiastes and Matthew, each asked for in other words.

Written for this book, before any search was run: what a reader of today might type who
remembers the thought and not the wording. Verses that the Bible repeats almost word for
word were left out, so that each query has one right answer.
"""

from __future__ import annotations

BOOKS = ("Proverbs", "Ecclesiastes", "Matthew")

# What is asked -> where it stands.
QUERIES = {
    "rely on God and don't count on your own intelligence": "Proverbs 3:5",
    "lazy people should learn from insects": "Proverbs 6:6",
    "love forgives every wrong": "Proverbs 10:12",
    "good people are kind to animals": "Proverbs 12:10",
    "spend time with clever people and you become clever yourself": "Proverbs 13:20",
    "parents who never punish their child do it harm": "Proverbs 13:24",
    "a gentle reply calms someone who is furious": "Proverbs 15:1",
    "arrogance comes before a downfall": "Proverbs 16:18",
    "being cheerful keeps you healthy": "Proverbs 17:22",
    "what children learn early stays with them for life": "Proverbs 22:6",
    "a good wife is worth more than jewels": "Proverbs 31:10",
    "giving to the poor is a loan to God": "Proverbs 19:17",
    "everything is meaningless": "Ecclesiastes 1:2",
    "history repeats itself and nothing is ever original": "Ecclesiastes 1:9",
    "the more you know, the sadder you get": "Ecclesiastes 1:18",
    "there is a right moment for everything": "Ecclesiastes 3:1",
    "working together pays off more than working alone": "Ecclesiastes 4:9",
    "rich people never feel they have enough money": "Ecclesiastes 5:10",
    "workers rest well at night but the wealthy lie awake": "Ecclesiastes 5:12",
    "don't lose your temper quickly": "Ecclesiastes 7:9",
    "the fastest runner doesn't always win, luck decides": "Ecclesiastes 9:11",
    "if you set a trap for others you get caught in it": "Ecclesiastes 10:8",
    "a house falls apart when the owner is idle": "Ecclesiastes 10:18",
    "too much studying is exhausting": "Ecclesiastes 12:12",
    "be kind to those who hate you": "Matthew 5:44",
    "give to charity in secret": "Matthew 6:3",
    "don't hoard wealth that can rust or be stolen": "Matthew 6:19",
    "nobody can work for two bosses": "Matthew 6:24",
    "don't worry about what will happen tomorrow": "Matthew 6:34",
    "don't criticize others or they will criticize you": "Matthew 7:1",
    "you notice small faults in others and miss your own large ones": "Matthew 7:3",
    "treat people the way you want to be treated": "Matthew 7:12",
    "build your home on a firm foundation": "Matthew 7:24",
    "wealthy people hardly ever get into paradise": "Matthew 19:24",
    "violent men die by violence": "Matthew 26:52",
    "a shepherd goes looking for the one animal that is missing": "Matthew 18:12",
}
