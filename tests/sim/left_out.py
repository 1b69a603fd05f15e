"""Which of hoop's own tests do not run in simulations, or not in each, and why. See in_world.py.

A name is that of a test function, in any file, or a part of it, or with a bracket the beginning of its
parameters. Tests that need what is not simulated, such as a process, are skipped besides.
"""

from __future__ import annotations

# By the reason: tests that no world can run.
REAL = {
    "compares with asyncio's loop, or with a second one": """
    test_a_busy_loop_sees_what_came
    test_a_program_can_use_every_name
    test_an_order_to_leave_passes_and_nothing_is_lost
    test_asyncios_tasks_on_our_loop
    test_closed_loop_is_freed_without_the_collector
    test_closed_loop_refuses_as_asyncios
    test_every_loop_on_one_socket_gets_connections
    test_it_does_what_asyncio_s_does
    test_native_tasks
    test_native_tasks_made_by_a_factory
    test_run_until_complete_stopped_before
    test_timer_of_a_sleep_fails_as_asyncio_s
    test_timer_of_a_sleep_looks_like_asyncio_s
    test_while_one_loop_is_blocked_the_others_accept
    """,
    "needs another thread": """
    test_a_blocking_client_in_a_thread
    test_a_blocking_server_in_a_thread
    test_a_deadline_is_not_rounded
    test_a_lookup_does_not_wait_for_the_default_executor
    test_a_method_of_one_loop_sees_the_wake
    test_all_tasks_from_another_thread
    test_all_tasks_keeps_loops_apart
    test_await_of_another_loops_future
    test_create_task_in_the_wrong_thread
    test_current_task_of_another_loop
    test_does_not_wake_a_loop_that_is_awake
    test_eager_task_is_not_eager_in
    test_run_coroutine_threadsafe
    test_run_in_executor
    test_set_result_in_the_wrong_thread
    test_tasks_are_counted_by_how_they_end
    test_the_slowest_of_several_is_named
    test_to_thread
    test_what_a_signal_handler_raises_leaves_the_loop
    test_wrong_thread
    """,
    "measures real time": """
    test_a_ready_task_is_scheduled
    test_sleep_is_idle_and_no_visit
    test_statistics_of_a_new_loop
    test_time_on_the_ring_and_time_waited_for
    test_what_blocks_the_loop_is_a_long_visit
    test_what_is_no_task_is_busy_by_class
    test_when_a_task_was_made_and_since_when
    """,
    "is about what a driver is, or what the loop's class is": """
    test_a_method_is_a_coroutine_function
    test_a_server_that_was_not_started_accepts_nobody_until_it_is
    test_bytes_of_datagrams
    test_close_closes_the_drivers_descriptors
    test_handles_know_where_they_were_made
    test_has_no_dict_until_one_is_needed
    test_names_its_driver
    test_nothing_happens_before_it_is_awaited
    test_operations_tell_what_they_are
    test_repr
    test_the_driver_counts_what_it_watches
    test_what_nobody_waits_for_is_forgotten
    """,
    "is about the files, sockets and errors of the kernel": """
    _full_backlog_
    _its_backlog_is_full
    test_a_connection_that_gets_the_number_works
    test_a_full_kernel_queues_pauses_and_resumes
    test_a_host_name_is_resolved_by_the_socket
    test_a_host_with_a_nul_is_refused
    test_a_port_that_meddles_with_its_transport
    test_a_queue_of_errors_is_emptied
    test_a_queue_that_is_the_users_to_read
    test_a_receiver_that_takes_nothing
    test_a_refused_datagram_is_told
    test_a_regular_file_cannot_be_watched
    test_a_signal_that_comes_with_one_whose_handler_raises
    test_a_socket_that_meddles_with_its_transport
    test_a_transport_on_a_given_socket_gives_way
    test_add_reader_of_a_regular_file
    test_an_address_whose_finaliser_sends
    test_bad_arguments_raise_what_asyncio_raises
    test_broadcast_keeps_its_one_address
    test_close_sends_what_was_queued_and_abort
    test_news_of_a_duplicate_whose_number
    test_odd_addresses_are_answered
    test_the_files_that_can_be_watched_are_those
    test_the_largest_datagram_and_one_too_large
    test_what_error_received_raises
    test_what_is_no_descriptor_is_refused
    test_what_the_kernel_holds_back_is_had_by_trying
    test_who_waits_for_a_closed_socket_learns_of_it
    test_wrong_arguments_are_refused_as_by_asyncio
    """,
    "states that something has left, or has arrived, before any time passes": """
    test_a_buffer_belongs_to_the_caller_again
    test_a_handshake_that_succeeds_ends_its_task
    test_a_large_write_waits_for_nothing
    test_a_lost_connection
    test_a_new_connection_of_a_server_does
    test_a_protocol_that_blocks_holds_nothing
    test_a_reader_of_a_class_that_derives_from_hoop_s
    test_a_server_makes_each_connection_in_a_copy
    test_a_socket_that_was_only_looked_at
    test_a_streamed_answer_leaves_chunk_by_chunk
    test_accepted_and_refused
    test_answers_have_left_
    test_answers_to_many_are_there
    test_close_delivers_
    test_head_and_body_wait_as_one_answer
    test_lines_leave_as_one_record
    test_many_small_writes_of_one_callback
    test_nobody_is_kept_waiting_by_a_peer_that_goes_on
    test_nothing_waits_while_the_loop
    test_orders_to_leave_between_what_was_received
    test_the_answers_of_asyncios_own_tasks_wait_too
    test_the_protocol_may_have_enough
    test_what_an_exception_cuts_short_has_left
    test_what_is_sent_before_blocking_has_left
    test_what_is_sent_has_left_when_sendto
    test_what_is_written_meanwhile_goes_nowhere
    test_what_many_servers_of_streams_drained
    test_what_tasks_answer_is_there_before_a_task_that
    test_what_waits_as_an_answer_is_sent
    test_what_waits_in_vain_leaves
    test_what_was_sent_before_an_abort_has_left
    test_what_was_written_over_tls_has_left
    test_whatever_would_show_that_
    test_who_keeps_the_socket_may_shut_it_down
    test_who_let_something_wait_for_long
    test_who_writes_twice_a_turn
    """,
    "expects datagrams in order": """
    test_datagrams_arrive_whole_in_order
    test_other_endpoints_have_turns_between
    """,
    "counts on the size of the kernel's buffers": """
    test_a_peer_that_closed_gets_what_is_still_to_be_sent
    test_a_slow_reader_pauses_the_writer_and_resumes_it
    test_closed_and_aborted_from_flow_control_callbacks
    test_the_users_buffer_is_held_while_it_is_sent
    """,
}

# Tests of files about the real disk, its cache and its limits, and about pipes, which are not simulated.
REAL_FILES = """
audit
cached
fifo
of_another_machine
past_the_cache
pipe
position_that_no_file_can_have
standard
test_a_call_of_a_closing_file_never_meets_another_file
test_a_cancelled_close_closes
test_a_cancelled_open_leaves_no_descriptor
test_a_cancelled_read_moves_nothing
test_a_cancelled_write_is_written_by_what_is_done_next
test_a_forgotten_file_with_a_read_under_way
test_calls_by_descriptor[
turn
"""

# Tests that say in which order tasks go on, or begin. They have the order of asyncio.
IN_ORDER = """
test_a_condition_wakes_as_many_as_it_is_told_to
test_a_lock_is_taken_in_order
test_a_loop_that_takes_its_turns_by_hand
test_a_random_program_does_what_it_does_with_asyncio
test_a_random_program_ends_with_everything_given_back
test_a_semaphore_s_place_of_a_cancelled_waiter_goes_to_the_next
test_an_item_is_not_lost_to_a_getter_that_is_cancelled_after_it_was_woken
test_an_order_to_leave_while_accepting_loses_no_other
test_as_completed
test_await_of_many_by_one_task_each
test_cancelled_before_it_is_woken_a_waiter_is_forgotten
test_each_datagram_has_a_turn_of_its_own
test_event_and_condition
test_gather_raises_the_first_exception
test_getters_are_served_in_order
test_lock_is_fair
test_nobody_passes_those_a_semaphore_has_woken
test_operations_begun_in_order_are_done_in_order
test_putters_are_served_in_order
test_sleep_yields_as_often_as_asyncios
test_sleepers_wake_in_the_order_of_their_deadlines
test_stop_after_an_exception_takes_no_further_turn
test_stop_before_running_runs_one_turn
test_stop_finishes_the_turn
test_two_tasks_share_a_context
test_whoever_waits_for_async_with_can_be_cancelled
"""

# Tests that count turns: in each, all that is ready takes a step. Not so in the orders `single` and `pct`.
BY_TURNS = """
test_100_000_timers
test_a_barrier_lets_its_parties_pass_together
test_a_barrier_that_is_reset_or_aborted_is_broken_for_those_who_wait
test_a_buffered_protocol_of_any_size
test_a_cancellation_taken_back_may_leave_the_lock_to_the_next
test_a_cancelled_connection_loses_its_transport
test_a_cancelled_receiver_takes_nothing_from_the_next
test_a_cancelled_wait_ends_with_the_lock_taken
test_a_coroutine_tells_whose_it_is
test_a_cycle_through_one_that_waits_is_collected
test_a_drain_whose_writer_changes_its_protocol_ends
test_a_free_lock_is_not_taken_past_those_who_wait
test_a_future_that_somebody_keeps_is_not_used_again
test_a_hundred_tasks_drain
test_a_line_longer_than_the_buffer_pauses_once_it_was_refused
test_a_notice_that_a_cancelled_wait_got_goes_to_the_next
test_a_read_of_more_than_fits_resumes_it
test_a_second_call_hastens_the_first
test_a_semaphore_lets_in_as_many_as_its_value
test_a_socket_closed_while_a_task_waits_is_closed_for
test_an_event_wakes_everybody
test_another_exception_instead_of_the_cancellation
test_arguments_and_context
test_await_of_an_awaited_one_fails
test_callbacks_and_cancellation_of_one_wait_are_not_those_of_the_next
test_cancel_at
test_cancel_reaches_the_innermost_task
test_cancel_swallowed_and_cancelled_again
test_cancelled_at_any_turn_of_the_handshake
test_cancelled_it_stops_where_it_is
test_cancelled_while_it_takes_the_lock_again_a_wait_goes_on_taking_it
test_does_not_begin_before_the_next_turn
test_dropped_generator_is_closed
test_due_timers_come_after_what_is_ready
test_ended_task_is_let_go
test_equal_deadlines_run_in_the_order_they_were_made
test_exactly
test_in_debug_mode_a_waiter_knows_where_it_was_made
test_is_due_at_once
test_it_is_copied_with_its_items
test_its_cancel_ends_the_block_without_an_error
test_nan_does_not_spoil_the_order_of_others
test_negative_delays_keep_their_order
test_one_that_was_woken_does_not_disturb_the_next
test_order_after_a_sweep
test_order_by_deadline
test_order_of_deadlines_that_differ_by_one_bit
test_pending_eager_task_is_kept_by_the_loop
test_return_instead_of_the_cancellation
test_semaphore
test_serve_forever_cancelled
test_serve_forever_ends
test_sites_count_what_they_made_and_what_ended
test_task_without_another_reference_ends
test_tasks_that_a_cancelled_task_starts_are_cancelled
test_the_repr_of_a_lock_says_how_it_is
test_the_same_script_has_the_same_results
test_the_task_of_accepting_is_gone_after_two_turns
test_timer_that_makes_itself_again_does_not_keep_the_turn
test_to_the_end
test_two_cannot_wait
test_wait_for_asks_after_each_notice
test_waiting_tasks_and_callbacks_are_told_in_the_order_they_came
test_what_the_handler_raises_in_a_finaliser_goes_to_the_unraisable_hook
test_when_wait_closed_returns_is_as_in_this_python
"""

# Tests that expect messages as they were sent, and soon, or files that are read whole. They have no pieces,
# small buffers, spikes, nor short reads.
WHOLE = """
test_a_burst_of_500_connections_is_accepted_whole
test_a_callback_may_use_another_connection
test_a_cancelled_receiver_takes_nothing_from_the_next
test_a_handshake_has_a_time_limit
test_a_question_is_answered_before_the_connection
test_a_server_that_was_trusted_and_goes_on_for_long
test_a_server_whose_callbacks_go_on_for_long
test_a_transport_has_the_descriptor_for_itself
test_operations_the_mode_does_not_allow_raise
test_pause_reading_stops_the_transport_below_too
test_settings_of_the_context_are_honoured
test_text_files_do_what_the_builtins_do
test_what_arrives_while_a_receiver_is_cancelled
"""
