"""Many runs of one program: with many seeds, in all schedules, cancelled at each await."""
