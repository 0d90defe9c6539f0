"""The proof of the checker: mutants die, other right answers pass, mistakes get their names.

python -m tests.mutation [names or chapters ...]    # the whole table, minutes
python -m tests.mutation --write                    # and keep it in companion/exercises
"""
