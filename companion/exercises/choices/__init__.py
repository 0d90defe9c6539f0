"""Choice questions, one file a chapter. `companion.exercises.quiz` shows them."""
